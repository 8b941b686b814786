// Package lab starts what is measured, and ends it: daemons of peerd and their rivals, each on free
// ports of loopback, in a directory that goes with the lab. What was started ends with the section
// it was started in, also if that fails or is interrupted: callers End a section, and Close the
// lab, however they return.
//
// It has a client of RESP too, and closed loads: as many clients as are told, each of which sends
// when it was answered. They measure rates. Latency is measured by package measure's open loops.
//
// It needs Linux (/proc), and Go to build the daemon.
package lab
