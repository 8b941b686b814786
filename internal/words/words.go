// Package words puts errors into words that a person knows.
//
// # Idea
//
// peerd's own errors are written for people. What they wrap is not: the standard library, libp2p,
// memberlist and the decoders speak of Go types, of "unexpected EOF", of multiaddresses, and list
// several errors on several lines. Those texts are replaced here, in one table, so that all that a
// person reads is alike: commands, answers over HTTP, the log from info on. It is texts and not
// types that are looked at, since several of those libraries keep no more than the text of what
// they wrap, and other hosts send theirs.
//
// # Caveats
//
// A text that is not in the table stays as it is. Programs decide on errors, not on their words:
// nothing here is to be parsed.
package words

import (
	"log/slog"
	"regexp"
	"strings"
)

// Of returns an error in words, on one line; "" for nil.
func Of(err error) string {
	if err == nil {
		return ""
	}
	return Text(err.Error())
}

// Text returns the text of an error in words, on one line.
func Text(text string) string {
	for _, r := range table {
		text = r.foreign.ReplaceAllString(text, r.words)
	}
	return oneLine(text)
}

// Attr returns an attribute of the log in words, if it is an error, or a "text": what a library
// says.
func Attr(a slog.Attr) slog.Attr {
	if err, ok := a.Value.Any().(error); ok {
		return slog.String(a.Key, Of(err))
	}
	if a.Key == "text" && a.Value.Kind() == slog.KindString {
		return slog.String(a.Key, Text(a.Value.String()))
	}
	return a
}

// oneLine returns a text without line breaks and what lists put around them, each line once.
func oneLine(text string) string {
	var parts []string
	seen := map[string]bool{}
	for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' || r == '\r' }) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "* ")
		if line != "" && !seen[line] {
			seen[line] = true
			parts = append(parts, line)
		}
	}
	joined := strings.Join(parts, "; ")
	return strings.ReplaceAll(joined, ":; ", ": ") // what introduced the list
}

// rule says what stands for a text of others: words may use the groups of the pattern.
type rule struct {
	foreign *regexp.Regexp
	words   string
}

// A socket's address, and one that the connection came from.
const (
	at   = `([^\s:>]*:?\S*?:\d+)`
	from = `(?:\S+->)?`
)

// call is a system call and the path that it was about.
const call = `\b(?:open|openat|read|write|stat|lstat|mkdir|remove|unlink|rename|fsync|sync|truncate|readdirent) ([^\s:]+): `

// table is applied in its order: from what surrounds others to what stands inside.
var table = compile([][2]string{
	// Lists of several errors, of memberlist and libp2p.
	{`\d+ errors? occurred:\s*`, ""},
	{`(?:failed to dial: )?failed to dial \S+: (?:all dials failed\s*)?`, ""},
	{`failed to dial: (?:all dials failed\s*)?`, ""},
	{`/ip6/([^\s/\[]+)/`, "/ip6/[$1]/"},
	{`\* \[/(?:ip4|ip6|dns[46]?)/(\S+?)/tcp/(\d+)\S*\] `, "* over TCP: "},
	{`\* \[/(?:ip4|ip6|dns[46]?)/(\S+?)/udp/(\d+)\S*\] `, "* $1:$2 over QUIC: "},
	{`failed to listen on any addresses: \[(.*?)\](\s|;|$)`, "$1$2"},
	{`[Ff]ailed to join \S+: dial`, "dial"},
	{`/(?:ip4|ip6|dns[46]?)/(\S+?)/tcp/(\d+)\S*`, "$1:$2 (TCP)"},
	{`/(?:ip4|ip6|dns[46]?)/(\S+?)/udp/(\d+)/quic-v1\S*`, "$1:$2 (QUIC)"},

	// Files: the system's error after a call and a path.
	{call + `no such file or directory`, "there is no $1"},
	{call + `not a directory`, "$1 cannot be there: a part of its path is a file"},
	{call + `is a directory`, "$1 is a directory"},
	{call + `file exists`, "$1 is there already"},
	{call + `permission denied`, "this user may not use $1"},
	{call + `read-only file system`, "$1 cannot be changed: its file system is read-only"},
	{call + `no space left on device`, "the disk of $1 is full"},
	{call + `input/output error`, "the disk of $1 failed: input/output error"},
	{`(?:` + call + `)?too many open files(?: in system)?`,
		"too many files are open: raise ulimit -n, or LimitNOFILE"},

	// Connections.
	{`http: TLS handshake error from (\S+): `, "no encrypted connection with the client at $1: "},
	{`http: Accept error: (?:accept \S+ \S+: )?(?:accept4?: )?`, "no client can be let in: "},
	{`accept (?:tcp|unix)[46]? \S+: (?:accept4?: )?`, "no client can be let in: "},
	{`(?:resolve: )?lookup (\S+?)(?: on \S+)?: no such host`, "there is no host with the name $1"},
	{`(?:resolve: )?lookup (\S+?)(?: on \S+)?: (?:server misbehaving|.*i/o timeout|.*connection refused)`,
		"nobody knows now which host has the name $1: the name server does not answer"},
	{`dial (?:tcp|udp)[46]? ` + from + at + `: (?:connect: )?connection refused`,
		"nothing listens on $1"},
	{`dial (?:tcp|udp)[46]? ` + from + at + `: (?:connect: )?(?:i/o timeout|connection timed out|context deadline exceeded)`,
		"$1 does not answer"},
	{`dial (?:tcp|udp)[46]? ` + from + at + `: (?:connect: )?(?:no route to host|network is unreachable|host is down)`,
		"there is no way from here to $1"},
	{`dial (?:tcp|udp)[46]? ` + from + at + `: (?:connect: )?`, "cannot connect to $1: "},
	{`listen (?:tcp|udp)[46]? (\S+): bind: address already in use`,
		"$1 is in use: stop what listens there, or choose another address"},
	{`listen (?:tcp|udp)[46]? (\S+): bind: cannot assign requested address`,
		"$1 is no address of this host: choose one that is"},
	{`listen (?:tcp|udp)[46]? (\S+): bind: permission denied`,
		"$1 may not be listened on by this user: choose a port above 1023"},
	{`bind: address already in use`,
		"it is in use: stop what listens there, or choose another address"},
	{`bind: cannot assign requested address`, "it is no address of this host: choose one that is"},
	{`bind: permission denied`, "this user may not listen there: choose a port above 1023"},
	{`(?:read|write) (?:tcp|udp|unix)[46]? \S+: (?:(?:read|write): )?`, ""},
	{`connect: connection refused`, "nothing listens there"},
	{`connection reset by peer|broken pipe`, "the other side broke the connection"},
	{`use of closed network connection|http: server closed idle connection`,
		"the connection was closed"},
	{`(?:context deadline exceeded|i/o timeout|net/http: timeout awaiting response headers|deadline exceeded)` +
		`(?: \(Client\.Timeout[^)]*\))?`, "there was no answer in time"},
	{`timeout: no recent network activity`, "nothing came from the other side any more"},
	{`context canceled`, "it was interrupted"},
	{`stream reset(?: \((?:remote|local)\))?(?:: code: 0x\w+)?(?:: transport error: stream \d+ canceled by \w+ with error code \d+)?`,
		"the stream was broken off"},
	{`connection closed(?: \((?:remote|local)\))?(?:: code: \S+)?`, "the connection was closed"},
	{`(?::? ?transport error: )?Application error 0x\w+(?: \((?:remote|local)\))?(?:: .*)?`, ""},
	{`failed to negotiate (?:security|stream multiplexer|stream multiplexing) protocol: `,
		"no encrypted connection: "},
	{`message did not have trailing newline|message too large`, "what answers there is no peer"},
	{`peer id mismatch: expected (\S+), but remote key matches (\S+)`,
		"another host answers there: not peer $1, but $2"},
	{`gater disallows connection to peer|gater rejected connection with peer \S+.*`,
		"that peer is not let in here"},
	{`protocols? not supported: \[?[^\]\n]*\]?`,
		"the other side does not serve that: it is stopping, or has another cluster key or version of the protocol"},
	{`dial backoff`, "it was tried a moment ago, and is again soon"},
	{`dial refused because of black hole`, "it was not tried, as nothing there answered of late"},
	{`no addresses$|no good addresses`, "no address of it is known"},

	// TLS and HTTP.
	{`(?:tls: )?first record does not look like a TLS handshake`,
		"what answers there does not speak TLS"},
	{`http: server gave HTTP response to HTTPS client`, "what answers there speaks HTTP without TLS"},
	{`(?:net/http: )?(?:HTTP/1\.x transport connection broken: )?malformed HTTP (?:response|version|status code) .*`,
		"what answers there does not speak HTTP"},
	{`(?:tls: failed to verify certificate: )?x509: certificate signed by unknown authority(?: \(.*\))?`,
		"its certificate is of an authority that is not known here"},
	{`(?:tls: failed to verify certificate: )?x509: certificate has expired or is not yet valid:?`,
		"its certificate is not valid at this time:"},
	{`(?:tls: failed to verify certificate: )?x509: `, ""},
	{`(?:remote error: )?tls: (?:certificate required|bad certificate)`,
		"it asks for a certificate that it knows"},
	{`remote error: tls: `, "it refused the encrypted connection: "},
	{`tls: failed to find any PEM data in (\w+) input`, "there is no $1 in PEM"},

	// Texts that were cut off, and JSON.
	{`(?:json: )?unexpected end of JSON input`, "the JSON ends too early"},
	{`invalid character ('.+?'|'\\?''|[^ ]+) [^;\n]*`, "no JSON: there must be no $1"},
	{`json: unknown field "`, `there is no member "`},
	{`json: cannot unmarshal (\w+)( \S+)? into Go struct field (?:\w*\.)(?:value\.)?(\S+) of type (struct \{.*\}|\S+)`,
		"$3 must be ‹$4›, and is ‹$1›$2"},
	{`json: cannot unmarshal (\w+)( \S+)? into Go value of type (struct \{.*\}|\S+)`,
		"it must be ‹$3›, and is ‹$1›$2"},
	{`‹\*?(?:u?int\d*|float\d*)›`, "a whole number"},
	{`‹number› (\S+)`, "the number $1"},
	{`‹number›`, "a number"},
	{`‹\w*\.?octets›`, `a text, or {"base64": "…"} in standard base64`},
	{`‹string›|‹\w*\.?Token›`, "a text"},
	{`‹null›`, "null"},
	{`‹\[\]uint8›`, "a text in base64"},
	{`‹bool›`, "true or false"},
	{`‹(?:\[\]\S*|array)›`, "a list"},
	{`‹[^›]*›`, "an object"},
	{`(: |^|\()(?:unexpected )?EOF($|[\s:;)])`, "${1}it ends too early$2"},
	{`parsing time ("(?:[^"\\]|\\.)*")(?: as "[^"]*")?: (?:cannot parse|extra text: ).*`, "$1 is no time as 2026-12-24T18:00:00Z"},
	{`parsing time ("(?:[^"\\]|\\.)*"): (\w+ out of range)`, "$1 is no time: $2"},
	{`Time\.UnmarshalJSON: input is not a JSON string`, `a time must be a text as "2026-12-24T18:00:00Z"`},
	{`illegal base64 data at input byte (\d+)`, "no standard base64, at byte $1"},
	{`invalid URL escape "(.*?)"`, `a percent sign is followed by no two hexadecimal digits: $1`},
})

func compile(pairs [][2]string) []rule {
	rules := make([]rule, len(pairs))
	for i, p := range pairs {
		rules[i] = rule{regexp.MustCompile(p[0]), p[1]}
	}
	return rules
}
