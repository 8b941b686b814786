package resp

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/peerd/peerd/internal/auth"
)

func runPing(c *call) error {
	subscriber := c.session.subs.all() > 0 && !c.session.resp3
	switch len(c.args) {
	case 1, 2:
		if subscriber { // the reply has the form of a message
			c.out.array(2)
			c.out.text("pong")
			c.out.text(string(bytes.Join(c.args[1:], nil)))
			return nil
		}
	}
	switch len(c.args) {
	case 1:
		c.out.status("PONG")
	case 2:
		c.out.bulk(c.args[1])
	default:
		return wrongArity("ping")
	}
	return nil
}

func runEcho(c *call) error {
	c.out.bulk(c.args[1])
	return nil
}

func runQuit(c *call) error {
	c.session.quit = true
	c.out.status("OK")
	return nil
}

// runReset makes the connection what it was when it began. It keeps the limits of a client that has
// authenticated, but has to do so again.
func runReset(c *call) error {
	s := c.session
	s.endTransaction()
	s.endTracking(c.server)
	s.subs.clear()
	s.name.set("")
	s.db, s.index = nil, 0
	s.resp3, c.out.resp3, s.mute = false, false, replying
	s.noEvict.Store(false)
	s.stranger = c.server.config.Auth != nil
	c.out.status("RESET")
	return nil
}

func runSelect(c *call) error {
	n, err := c.databaseNumber(1)
	switch {
	case err != nil:
		return err
	case c.session.pending.open:
		return replyError("ERR SELECT is not allowed in transactions: a transaction is of one database, " +
			"select it before MULTI")
	}
	db, err := c.server.database(n)
	if err != nil {
		return err
	}
	if k := c.session.tracker; k != nil {
		if err := c.server.tracking.move(k, n, db); err != nil {
			return err
		}
	}
	c.session.db, c.session.index = db, n
	c.out.status("OK")
	return nil
}

// databaseNumber reads argument i as the number of a database.
func (c *call) databaseNumber(i int) (int, error) {
	n, err := c.integer(i)
	switch {
	case err != nil:
		return 0, err
	case n != int64(int32(n)):
		return 0, replyError("ERR value is out of range, value must between -2147483648 and 2147483647")
	case n < 0 || n >= Databases:
		return 0, replyError("ERR DB index is out of range")
	}
	return int(n), nil
}

// runAuth takes a password, alone or after the name of the only user.
func runAuth(c *call) error {
	name, password := []byte(onlyUser), c.args[1]
	switch {
	case len(c.args) == 2 && c.server.config.Auth == nil:
		return errNoPassword
	case len(c.args) == 2:
	case len(c.args) == 3:
		name, password = c.args[1], c.args[2]
	default:
		return errSyntax
	}
	if err := c.authenticate(name, password); err != nil {
		return err
	}
	c.out.status("OK")
	return nil
}

// onlyUser is the name of the user that every client is.
const onlyUser = "default"

// authenticate makes the connection that of a client who may do everything, or returns why not.
// A connection that was authenticated before stays so.
func (c *call) authenticate(name, password []byte) error {
	guard := c.server.config.Auth
	if guard == nil { // the user has no password, so any is good
		if string(name) != onlyUser {
			return errWrongPass
		}
		return nil
	}
	if string(name) != onlyUser {
		password = nil // it counts as a failure
	}
	var wait auth.WaitError
	switch err := guard.Check(c.session.from, password); {
	case errors.As(err, &wait):
		return replyError("ERR " + wait.Error())
	case err != nil:
		return errWrongPass
	}
	c.session.stranger = false
	return nil
}

// runHello switches between RESP2 and RESP3. Nothing is changed unless all of its options are
// good.
func runHello(c *call) error {
	resp3 := c.session.resp3
	if len(c.args) > 1 {
		version, err := c.integer(1)
		switch {
		case err != nil:
			return replyError("ERR Protocol version is not an integer or out of range")
		case version != 2 && version != 3:
			return replyError("NOPROTO unsupported protocol version")
		}
		resp3 = version == 3
	}
	name := c.session.name.get()
	var user, password []byte
	for i := 2; i < len(c.args); i++ {
		switch {
		case c.is(i, "auth") && i+2 < len(c.args):
			user, password = c.args[i+1], c.args[i+2]
			i += 2
		case c.is(i, "setname") && i+1 < len(c.args):
			i++
			if err := checkClientName(c.args[i]); err != nil {
				return err
			}
			name = c.arg(i)
		default:
			return replyError(fmt.Sprintf(
				"ERR Syntax error in HELLO option '%s'", clip(c.args[i], 128)))
		}
	}
	if password != nil {
		if err := c.authenticate(user, password); err != nil {
			return err
		}
	}
	if c.session.stranger {
		return errNoAuthYet
	}
	c.session.name.set(name)
	c.session.resp3, c.out.resp3 = resp3, resp3
	c.describeServer()
	return nil
}

func (c *call) describeServer() {
	version := int64(2)
	if c.session.resp3 {
		version = 3
	}
	c.out.dict(7)
	c.out.text("server")
	c.out.text("peerd")
	c.out.text("version")
	c.out.text(redisVersion)
	c.out.text("proto")
	c.out.integer(version)
	c.out.text("id")
	c.out.integer(c.session.id)
	c.out.text("mode")
	c.out.text("standalone")
	c.out.text("role")
	c.out.text("master")
	c.out.text("modules")
	c.out.array(0)
}

func checkClientName(name []byte) error {
	if len(name) > MaxClientName {
		return replyError(fmt.Sprintf(
			"ERR a name of %d bytes exceeds the limit of %d bytes", len(name), MaxClientName))
	}
	for _, ch := range name {
		if ch < '!' || ch > '~' {
			return replyError(
				"ERR Client names cannot contain spaces, newlines or special characters.")
		}
	}
	return nil
}

func runClientSetName(c *call) error {
	if err := checkClientName(c.args[2]); err != nil {
		return err
	}
	c.session.name.set(c.arg(2))
	c.out.status("OK")
	return nil
}

func runClientGetName(c *call) error {
	if c.session.name.get() == "" {
		c.out.null()
		return nil
	}
	c.out.text(c.session.name.get())
	return nil
}

func runClientID(c *call) error {
	c.out.integer(c.session.id)
	return nil
}

// runClientSetInfo takes what client libraries tell of themselves, and keeps nothing of it.
func runClientSetInfo(c *call) error {
	if !c.is(2, "lib-name") && !c.is(2, "lib-ver") {
		return replyError(fmt.Sprintf("ERR Unrecognized option '%s'", clip(c.args[2], 128)))
	}
	if err := checkClientName(c.args[3]); err != nil {
		return replyError(fmt.Sprintf(
			"ERR %s cannot contain spaces, newlines or special characters.", clip(c.args[2], 128)))
	}
	c.out.status("OK")
	return nil
}
