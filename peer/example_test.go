package peer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/peerd/peerd/peer"
)

// openAlone opens a peer in memory and without a network, as the examples need no more.
func openAlone() *peer.Peer {
	p, err := peer.Open(context.Background(), peer.Config{Memory: true, Offline: true})
	if err != nil {
		log.Fatal(err)
	}
	return p
}

// What was acknowledged is there when the directory is opened again, which one peer at a time has.
// Without Offline the peer would also look for others and converge with them.
func ExampleOpen() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "peerd-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	config := peer.Config{Dir: dir, Offline: true, Durability: peer.Always}
	for range 2 {
		p, err := peer.Open(ctx, config)
		if err != nil {
			log.Fatal(err)
		}
		if _, err := peer.Open(ctx, config); errors.Is(err, peer.ErrLocked) {
			fmt.Println("the directory is in use")
		}
		err = p.Update(ctx, func(tx *peer.Tx) error {
			n, err := tx.Counter("starts").Add(1)
			fmt.Println("started", n)
			return err
		})
		if err != nil {
			log.Fatal(err)
		}
		if err := p.Close(); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// the directory is in use
	// started 1
	// the directory is in use
	// started 2
}

// The writes of a function become visible together, here and on every other peer. If it returns
// an error, none of them took place.
func ExamplePeer_Update() {
	ctx := context.Background()
	p := openAlone()
	defer p.Close()
	errSoldOut := errors.New("sold out")
	err := p.Update(ctx, func(tx *peer.Tx) error {
		if _, err := tx.Set("orders").Add("1001"); err != nil {
			return err
		}
		left, err := tx.Counter("stock").Add(-1)
		if err == nil && left < 0 {
			err = errSoldOut
		}
		return err
	})
	fmt.Println(err)
	err = p.View(ctx, func(tx *peer.Tx) error {
		fmt.Println("orders:", tx.Set("orders").Len())
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// sold out
	// orders: 0
}

// A view reads one moment. Nothing is declared: a handle gives a key its type.
func ExamplePeer_View() {
	ctx := context.Background()
	p := openAlone()
	defer p.Close()
	err := p.Update(ctx, func(tx *peer.Tx) error {
		ann := tx.Map("ann")
		if err := ann.String("mail").Set([]byte("ann@example.com")); err != nil {
			return err
		}
		_, err := ann.Set("groups").Add("staff")
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	err = p.View(ctx, func(tx *peer.Tx) error {
		mail, _ := tx.Map("ann").String("mail").Get()
		groups := slices.Collect(tx.Map("ann").Set("groups").All())
		fmt.Printf("%s is in %v\n", mail, groups)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output: ann@example.com is in [staff]
}

// A watch tells which keys changed, here or on another peer; a view then tells what they are.
func ExamplePeer_Watch() {
	ctx := context.Background()
	p := openAlone()
	defer p.Close()
	w := p.Watch("user:")
	defer w.Close()
	for _, key := range []string{"user:2", "note:1", "user:1", "user:2"} {
		err := p.Update(ctx, func(tx *peer.Tx) error { return tx.Flag(key).Set(true) })
		if err != nil {
			log.Fatal(err)
		}
	}
	change, err := w.Next(ctx)
	fmt.Println(change.Keys, err)
	// Output: [user:1 user:2] <nil>
}

// Who must not lose a write with this host waits until others have it. Alone it waits in vain.
func ExampleSpace_Replicated() {
	ctx := context.Background()
	p := openAlone()
	defer p.Close()
	if err := p.Update(ctx, func(tx *peer.Tx) error { return tx.Flag("paid").Set(true) }); err != nil {
		log.Fatal(err)
	}
	orders, err := p.Space("default")
	if err != nil {
		log.Fatal(err)
	}
	soon, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	fmt.Println(orders.Replicated(soon, 1))
	fmt.Println(p.Replicated(ctx, 0))
	// Output:
	// 0 context deadline exceeded
	// 0 <nil>
}

// A watch of few keys among many looks at each key as it changes.
func ExampleWatch_Only() {
	ctx := context.Background()
	p := openAlone()
	defer p.Close()
	w := p.Watch("")
	defer w.Close()
	w.Only(func(key string) bool { return key == "wanted" })
	for _, key := range []string{"other", "wanted", "another"} {
		if err := p.Update(ctx, func(tx *peer.Tx) error { return tx.Flag(key).Set(true) }); err != nil {
			log.Fatal(err)
		}
	}
	change, err := w.Next(ctx)
	fmt.Println(change.Keys, err)
	// Output: [wanted] <nil>
}

// A front-end that knows more of what it does than which keys change notes it.
func ExampleWatch_WithNotes() {
	ctx := context.Background()
	p := openAlone()
	defer p.Close()
	w := p.Watch("")
	w.WithNotes()
	defer w.Close()
	err := p.Update(ctx, func(tx *peer.Tx) error {
		for _, key := range []string{"bob", "ann"} {
			if err := tx.Flag(key).Set(true); err != nil {
				return err
			}
		}
		tx.Touched(1, func(key string) { tx.Note(key + " was enabled") }) // after the first
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	change, err := w.Next(ctx)
	for _, note := range change.Notes {
		if gone, ok := note.(peer.Expired); ok {
			fmt.Println("expired:", gone)
		} else {
			fmt.Println(note, err)
		}
	}
	// Output: ann was enabled <nil>
}

// Who comes back with the token of the last change is told what came after it, and nothing twice.
func ExamplePeer_WatchSince() {
	ctx := context.Background()
	p := openAlone()
	defer p.Close()
	enable := func(key string) peer.Token {
		token, err := p.UpdateToken(ctx, func(tx *peer.Tx) error { return tx.Flag(key).Set(true) })
		if err != nil {
			log.Fatal(err)
		}
		return token
	}
	last := enable("user:1")
	enable("user:2")
	enable("user:3")
	w, err := p.WatchSince("user:", last)
	if err != nil {
		log.Fatal(err)
	}
	defer w.Close()
	for change, err := range w.All(ctx) {
		fmt.Println(change.Keys, err)
		break
	}
	// Output: [user:2 user:3] <nil>
}

// A session ends a while after it was used last.
func ExampleTx_Now() {
	p := openAlone()
	defer p.Close()
	err := p.Update(context.Background(), func(tx *peer.Tx) error {
		if err := tx.Map("session").String("user").Set([]byte("alice")); err != nil {
			return err
		}
		_, err := tx.Expiry("session").Set(tx.Now().Add(30 * time.Minute))
		return err
	})
	fmt.Println(err)
	// Output: <nil>
}

// What is to end at a time that has passed is removed at once.
func ExampleTx_Past() {
	p := openAlone()
	defer p.Close()
	err := p.Update(context.Background(), func(tx *peer.Tx) error {
		for _, at := range []time.Time{tx.Now().Add(-time.Minute), tx.Now().Add(time.Minute)} {
			fmt.Println(tx.Past(at))
		}
		return nil
	})
	fmt.Println(err)
	// Output:
	// true
	// false
	// <nil>
}

// Who goes through keys in pages counts those that have expired, so that no page takes long.
func ExampleTx_Scan() {
	p := openAlone()
	defer p.Close()
	err := p.Update(context.Background(), func(tx *peer.Tx) error {
		if err := tx.String("alice").SetUntil(nil, tx.Now().Add(-time.Second)); err != nil {
			return err
		}
		if err := tx.String("bob").Set(nil); err != nil {
			return err
		}
		for key, types := range tx.Scan("", "") {
			fmt.Println(key, types != 0)
		}
		return nil
	})
	fmt.Println(err)
	// Output:
	// alice false
	// bob true
	// <nil>
}

// What has expired is counted by Len until it is removed, which others than who said when do later.
func ExampleTx_Expired() {
	p := openAlone()
	defer p.Close()
	ctx := context.Background()
	if err := p.Update(ctx, func(tx *peer.Tx) error {
		if err := tx.String("stays").Set(nil); err != nil {
			return err
		}
		return tx.String("session").SetUntil(nil, tx.Now().Add(-time.Second))
	}); err != nil {
		fmt.Println(err)
	}
	err := p.View(ctx, func(tx *peer.Tx) error {
		expired, expiring := tx.Expired()
		fmt.Println(tx.Len()-expired, expiring, tx.ExpiredCost(1000) > 0)
		return nil
	})
	fmt.Println(err)
	// Output:
	// 1 0 true
	// <nil>
}

// What is little and is gone through often need not be searched for on the disk: Read does that where it is at hand, and
// else View, which makes it so.
func ExampleTx_AtHand() {
	p := openAlone()
	defer p.Close()
	ctx := context.Background()
	if err := p.Update(ctx, func(tx *peer.Tx) error {
		return tx.Map("session").String("user").Set([]byte("alice"))
	}); err != nil {
		fmt.Println(err)
	}
	errAway := errors.New("not at hand")
	show := func(tx *peer.Tx) error {
		for field, value := range tx.Map("session").Strings() {
			fmt.Printf("%s: %s\n", field, value)
		}
		return nil
	}
	errs := p.Read([]func(*peer.Tx) error{func(tx *peer.Tx) error {
		if !tx.AtHand("session") {
			return errAway
		}
		return show(tx)
	}})
	if errs != nil && errors.Is(errs[0], errAway) {
		err := p.View(ctx, func(tx *peer.Tx) error {
			tx.AtHand("session")
			return show(tx)
		})
		fmt.Println(err)
	}
	// Output:
	// user: alice
	// <nil>
}

// Keys are gone through in order, all of them, those with a prefix, or page by page. The loop may
// write.
func ExampleTx_Keys() {
	ctx := context.Background()
	p := openAlone()
	defer p.Close()
	err := p.Update(ctx, func(tx *peer.Tx) error {
		for _, key := range []string{"user:1", "user:2", "note:1", "user:3"} {
			if err := tx.Flag(key).Set(true); err != nil {
				return err
			}
		}
		for key := range tx.Keys("note:", "") {
			if _, err := tx.Remove(key); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	var page, rest []string
	err = p.View(ctx, func(tx *peer.Tx) error {
		fmt.Println(tx.Len(), "keys")
		for key, types := range tx.All() {
			fmt.Println(key, types)
			break
		}
		for key := range tx.Keys("user:", "user:1") {
			page = append(page, key)
		}
		for key := range tx.AllAfter("user:2") {
			rest = append(rest, key)
		}
		return tx.Err() // as View would without: a page is whole or an error
	})
	fmt.Println(page, rest, err)
	// Output:
	// 3 keys
	// user:1 flag
	// [user:2 user:3] [user:3] <nil>
}

// Several transactions share one group: each is whole or not at all, and all are answered together.
func ExamplePeer_UpdateAll() {
	ctx := context.Background()
	p := openAlone()
	defer p.Close()
	add := func(n int64) func(tx *peer.Tx) error {
		return func(tx *peer.Tx) error {
			sum, err := tx.Counter("n").Add(n)
			if err == nil && sum < 0 {
				err = errors.New("not below zero")
			}
			return err
		}
	}
	fmt.Println(p.UpdateAll(ctx, []func(tx *peer.Tx) error{add(1), add(-5), add(1)}))
	_ = p.View(ctx, func(tx *peer.Tx) error {
		fmt.Println(tx.Counter("n").Get(), errors.Is(tx.Flag("f").Set(true), peer.ErrReadOnly))
		return nil
	})
	// Output:
	// [<nil> not below zero <nil>]
	// 2 true
}

// Submit waits for nobody, and Read neither: it returns what was answered before, also while a
// write is being synced.
func ExamplePeer_Submit() {
	p := openAlone()
	defer p.Close()
	answered := make(chan struct{})
	read := ""
	p.Submit([]func(tx *peer.Tx) error{
		func(tx *peer.Tx) error { return tx.String("name").Set([]byte("peerd")) },
		func(tx *peer.Tx) error { panic("a mistake") },
	}, func(errs []error) {
		var panicked *peer.PanicError
		fmt.Println(errs[0], errors.As(errs[1], &panicked))
		close(answered)
	})
	<-answered
	errs := p.Read([]func(tx *peer.Tx) error{func(tx *peer.Tx) error {
		value, _ := tx.String("name").Get()
		read = string(value)
		return nil
	}})
	fmt.Println(read, errs)
	// Output:
	// <nil> true
	// peerd []
}

// A token says what a moment has seen: any peer of the cluster can be asked to wait until it has
// seen as much.
func ExamplePeer_Wait() {
	ctx := context.Background()
	here, there := openAlone(), openAlone() // never to meet
	defer here.Close()
	defer there.Close()
	token, err := here.UpdateToken(ctx, func(tx *peer.Tx) error { return tx.Flag("seen").Set(true) })
	fmt.Println(err, here.Wait(ctx, token), token.Check(), len(token) <= peer.MaxToken)
	read, err := here.ViewToken(ctx, func(tx *peer.Tx) error { return nil })
	fmt.Println(read == token, err, errors.Is(peer.Token("x").Check(), peer.ErrToken))

	ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	var missing *peer.NotSeenError
	err = there.Wait(ctx, token)
	fmt.Println(errors.As(err, &missing), len(missing.Missing), errors.Is(err, context.DeadlineExceeded))
	fmt.Println(errors.Is(err, peer.ErrLost)) // who wrote it may come back
	// Output:
	// <nil> <nil> <nil> true
	// true <nil> true
	// true 1 true
	// false
}

// After a Reset the keys are told anew, up to the next Change with a token. Who missed more than
// the log holds is told so.
func ExampleWatch_All() {
	ctx := context.Background()
	p := openAlone()
	defer p.Close()
	w := p.Watch("")
	for _, key := range []string{"a", "b"} {
		if err := p.Update(ctx, func(tx *peer.Tx) error { return tx.Flag(key).Set(true) }); err != nil {
			log.Fatal(err)
		}
	}
	for change, err := range w.All(ctx) {
		if err != nil {
			fmt.Println(errors.Is(err, peer.ErrClosed))
			break
		}
		told, err := w.Token()
		fmt.Println(change.Keys, change.Reset, change.Token == told, err)
		w.Close()
	}
	// Output:
	// [a b] false true <nil>
	// true
}

// A backup is a stream, is checked without a peer, and becomes the directory of a new one.
func ExamplePeer_Backup() {
	ctx := context.Background()
	p := openAlone()
	if err := p.Update(ctx, func(tx *peer.Tx) error { return tx.Flag("kept").Set(true) }); err != nil {
		log.Fatal(err)
	}
	var file bytes.Buffer
	made, err := p.Backup(ctx, &file, func(peer.BackupProgress) {})
	if err != nil {
		log.Fatal(err)
	}
	p.Close()
	damaged := bytes.Clone(file.Bytes())
	damaged[len(damaged)/2] ^= 1
	_, err = peer.VerifyBackup(ctx, bytes.NewReader(damaged), nil)
	var space peer.BackupSpace = made.Spaces[0] // of each space that the peer holds
	fmt.Println(space.Space, space.Keys, "key;", errors.Is(err, peer.ErrBackupDamaged))

	dir, err := os.MkdirTemp("", "peerd-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	into := peer.RestoreConfig{Dir: filepath.Join(dir, "data")}
	if _, err := peer.Restore(ctx, &file, into); err != nil {
		log.Fatal(err)
	}
	_, err = peer.Restore(ctx, &file, into)
	fmt.Println("again:", errors.Is(err, peer.ErrNotEmpty))
	// Output:
	// default 1 key; true
	// again: true
}

// A configuration is checked as a whole, and each problem names its field.
func ExampleConfig_Validate() {
	err := peer.Config{Dir: "data", Gossip: "here", Durability: "perhaps"}.Validate()
	var problem *peer.ConfigError
	fmt.Println(errors.As(err, &problem), problem.Field)
	// Output: true gossip
}

// Status and Metrics say how a peer is. A peer that knows nobody is ready as soon as it is open.
func ExamplePeer_Status() {
	ctx := context.Background()
	p := openAlone()
	if err := p.Update(ctx, func(tx *peer.Tx) error { return tx.Flag("on").Set(true) }); err != nil {
		log.Fatal(err)
	}
	s, err := p.Status()
	fmt.Println(s.Keys, s.Ready, len(s.Members), err)
	fmt.Println(p.Mutations())
	m, err := p.Metrics()
	fmt.Println(m.Transactions, m.CommitTimes.Total, m.CommitTimes.Bound(0), m.Offered.Applied, err)
	fmt.Println(p.Ready(), p.Close())
	<-p.Done()
	_, err = p.Status()
	fmt.Println(errors.Is(err, peer.ErrClosed))
	// Output:
	// 1 true 0 <nil>
	// 1 <nil>
	// 1 1 16µs 0 <nil>
	// <nil> <nil>
	// true
}

// The cluster's key is replaced in two steps, at any of its peers. Here the cluster is this peer
// alone. What is wrong is a list, empty if nothing is.
func ExampleProblem() {
	s := peer.Status{Problems: []peer.Problem{{ID: "disk-low", What: "3 MiB are free and 9 MiB must be: writes are refused",
		Do: "Make room, or lower --min-free."}}}
	for _, p := range s.Problems {
		fmt.Printf("%s: %s\n%s\n", p.ID, p.What, p.Do)
	}
	fmt.Println("of", len(slices.Collect(peer.ProblemIDs())), "kinds")
	// Output:
	// disk-low: 3 MiB are free and 9 MiB must be: writes are refused
	// Make room, or lower --min-free.
	// of 16 kinds
}

func ExamplePeer_RotateKey() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "peerd-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	p, err := peer.Open(ctx, peer.Config{
		Dir: dir, Gossip: "127.0.0.1:0", P2P: "127.0.0.1:0", FastGossip: true, Durability: peer.None,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	steps := []string{peer.KeyAnswers, peer.KeyAccepted, peer.KeyUsed, peer.KeyAlone}
	show := func(c peer.KeyChange, err error) {
		fmt.Println("done:", c.Done, err)
		for _, host := range c.Hosts {
			if host.State != peer.KeyLeftOut {
				fmt.Println("  step", slices.Index(steps, host.State), "of 3: it", host.State)
			}
		}
	}
	show(p.RotateKey(ctx, nil))
	show(p.RetireKeys(ctx, nil))
	_, err = p.RetireKeys(ctx, []string{"nobody"})
	fmt.Println(errors.Is(err, peer.ErrUnknownMember))
	// Output:
	// done: true <nil>
	//   step 2 of 3: it uses the new key
	// done: true <nil>
	//   step 3 of 3: it accepts the new key alone
	// true
}

// A new host joins with the token of an invitation alone, and is given the cluster's key.
func ExampleJoin() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "peerd-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	member, err := peer.Open(ctx, peer.Config{Dir: dir + "/member", Gossip: "127.0.0.1:0", P2P: "127.0.0.1:0"})
	if err != nil {
		log.Fatal(err)
	}
	defer member.Close()
	var invitation peer.Invitation
	invitation, err = member.Invite()
	if errors.Is(err, peer.ErrTooManyInvitations) {
		log.Fatal("one of them has to be used, or to be over, first")
	}
	guest := peer.Config{Dir: dir + "/guest", Gossip: "127.0.0.1:0", P2P: "127.0.0.1:0"}
	joined, err := peer.Join(ctx, guest, invitation.Token)
	fmt.Println(err, len(joined.Join)) // and now peer.Open(ctx, joined)
	guest.Dir = dir + "/another"
	_, err = peer.Join(ctx, guest, invitation.Token)
	fmt.Println(errors.Is(err, peer.ErrInvitation))
	// Output:
	// <nil> 1
	// true
}

// A host that will not come back is removed, so that nobody waits for it. Who means it may name
// it by a part of its id.
func ExamplePeer_RemoveMember() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "peerd-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	p, err := peer.Open(ctx, peer.Config{Dir: dir, Gossip: "127.0.0.1:0", P2P: "127.0.0.1:0"})
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	const lost = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
	if _, err := p.RemoveMember(ctx, lost); err != nil {
		log.Fatal(err)
	}
	var removed []peer.RemovedMember
	removed, err = p.RemovedMembers(ctx)
	fmt.Println(len(removed), removed[0].PeerID == lost, err)
	_, err = p.AddMember(ctx, lost[:20])
	fmt.Println(err)
	_, err = p.RemoveMember(ctx, p.Keys().PeerID)
	fmt.Println(errors.Is(err, peer.ErrRemoveSelf))
	_, err = p.RemoveMember(ctx, "nobody")
	fmt.Println(errors.Is(err, peer.ErrUnknownMember), errors.Is(err, peer.ErrSeveralMembers))
	// The removed one is told, and is not ready.
	fmt.Println(errors.Is(p.Ready(), peer.ErrRemoved))
	// Output:
	// 1 true <nil>
	// <nil>
	// true
	// true false
	// false
}

// What a stopped peer wrote and told nobody is found in its directory. This one never had anybody
// to tell.
func ExampleSalvage() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "peerd-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	p, err := peer.Open(ctx, peer.Config{Dir: dir, Offline: true})
	if err != nil {
		log.Fatal(err)
	}
	err = p.Update(ctx, func(tx *peer.Tx) error {
		if _, err := tx.Set("fruit").Add("apple"); err != nil {
			return err
		}
		return tx.Map("ann").String("mail").Set([]byte("ann@example.com"))
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := p.Close(); err != nil {
		log.Fatal(err)
	}
	place := func(key peer.Bytes, path []peer.SalvagedStep) string {
		at := string(key)
		for _, step := range path {
			at += " " + step.Type
			if len(step.Name) > 0 {
				at += " " + string(step.Name)
			}
		}
		return at
	}
	err = peer.Salvage(dir, "", func(w peer.Salvaged) error {
		fmt.Println(w.Dot, w.Operation, place(w.Key, w.Path))
		return nil
	})
	fmt.Println(err)
	// Output:
	// 1 insert fruit set apple
	// 2 set ann map mail string
	// <nil>
}

// Text is a string in JSON, and other bytes are in base64.
func ExampleBytes_MarshalJSON() {
	for _, b := range []peer.Bytes{peer.Bytes("apple"), {0xff, 0x00}} {
		text, err := json.Marshal(b)
		fmt.Println(string(text), err)
	}
	// Output:
	// "apple" <nil>
	// {"base64":"/wA="} <nil>
}

// A fork shows in the status of both sides, and stays until an operator ends one of them. Sound
// machines have none.
func ExampleFork() {
	p := openAlone()
	defer p.Close()
	describe := func(f peer.Fork) string {
		return fmt.Sprintf("of %s only %d mutations are the same: %v have what is here, %v the other",
			f.Replica, f.Common, f.Here, f.There)
	}
	s, err := p.Status()
	for _, f := range s.Forks {
		fmt.Println(describe(f))
	}
	fmt.Println(len(s.Forks), "forks", err)
	// Output: 0 forks <nil>
}

// A member tells how it is, and nothing once it is gone.
func ExampleTold() {
	p := openAlone()
	defer p.Close()
	describe := func(t *peer.Told) string {
		if t == nil {
			return "not heard of"
		}
		return fmt.Sprintf("version %s, ready %v %s, %d bytes of data, %d free, writes as %s", t.Version, t.Ready, t.Reason,
			t.StoreBytes, t.FreeBytes, t.Replica)
	}
	s, err := p.Status()
	for _, m := range s.Members {
		fmt.Println(m.Name, describe(m.Told))
	}
	fmt.Println(len(s.Members), "others", err)
	// Output: 0 others <nil>
}

// An empty peer is filled from another one, and says how far that is.
func ExampleRepairing() {
	p := openAlone()
	defer p.Close()
	describe := func(r *peer.Repairing) string {
		if r == nil {
			return "not being repaired"
		}
		return fmt.Sprintf("%d of %d cells from %s, %.0f a second, %.0f s left", r.Cells, r.Of, r.From, r.CellsPerSecond,
			r.SecondsLeft)
	}
	s, err := p.Status()
	fmt.Println(describe(s.Repairing), err)
	// Output: not being repaired <nil>
}

// Some settings change while a peer runs, as at a signal. What is wrong is told, and changes
// nothing.
func ExamplePeer_Reload() {
	cfg := peer.Config{Memory: true, Offline: true, Durability: peer.Interval}
	p, err := peer.Open(context.Background(), cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	cfg.MaxSkew = time.Second
	fmt.Println(p.Reload(cfg))
	cfg.MaxSkew = -time.Second
	fmt.Println(p.Reload(cfg) != nil)
	// Output:
	// <nil>
	// true
}

// Errors say whether something changed. Which of them a program tells apart depends on what it
// can do.
func Example_errors() {
	advice := func(err error) string {
		switch {
		case errors.Is(err, peer.ErrNoSpace), errors.Is(err, peer.ErrRebuilding):
			return "nothing changed: try again later"
		case errors.Is(err, peer.ErrBackupRuns), errors.Is(err, peer.ErrKeyChangeRuns),
			errors.Is(err, peer.ErrKeyChangeOpen), errors.Is(err, peer.ErrKeyAlone):
			return "nothing was begun: wait for what has to come first"
		case errors.Is(err, peer.ErrTooManyReplicas):
			return "it is written, and only the token is missing"
		case errors.Is(err, peer.ErrNoClusterKey), errors.Is(err, peer.ErrOtherClusterKey), errors.Is(err, peer.ErrNoBackup):
			return "something else has to be given"
		case errors.Is(err, peer.ErrTooLarge):
			return "nothing changed: write it in parts"
		case errors.Is(err, peer.ErrExited):
			return "nothing changed: fn ended its goroutine"
		case errors.Is(err, peer.ErrClosed):
			return "whether it is written is not known"
		}
		return "as fn returned it: nothing changed"
	}
	p := openAlone()
	fmt.Println(advice(p.Update(context.Background(), func(*peer.Tx) error { return errors.New("no") })))
	p.Close()
	fmt.Println(advice(p.Update(context.Background(), func(*peer.Tx) error { return nil })))
	dir, err := os.MkdirTemp("", "peerd")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	_, err = peer.Open(context.Background(), peer.Config{Dir: dir, Join: []string{"127.0.0.1:1"}})
	fmt.Println(advice(err))
	// Output:
	// as fn returned it: nothing changed
	// whether it is written is not known
	// something else has to be given
}

// Messages are for who listens now. Each goes its way before the next one, so hear must not wait.
func ExamplePeer_Publish() {
	p, err := peer.Open(context.Background(), peer.Config{Memory: true, Offline: true})
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	news := make(chan peer.Message, 100)
	stop := p.Listen(func(m peer.Message) {
		select {
		case news <- m:
		default: // nobody reads as fast: it is lost
		}
	})
	defer stop()
	err = p.Publish(peer.Message{Channel: "news", Payload: []byte("hello")})
	switch {
	case errors.Is(err, peer.ErrMessage):
		log.Fatal("too large: ", err)
	case err != nil:
		log.Fatal(err)
	}
	m := <-news
	fmt.Printf("%s: %s\n", m.Channel, m.Payload)
	figures, err := p.Metrics()
	if err != nil {
		log.Fatal(err)
	}
	var sent peer.Messages = figures.Messages
	fmt.Println(sent.Published, "published,", sent.Dropped, "dropped")
	// Output:
	// news: hello
	// 1 published, 0 dropped
}

// A space is a set of keys apart from others: each host takes part in all, or in those that
// Config.Spaces names. Its first write makes it.
func ExamplePeer_Space() {
	ctx := context.Background()
	p := openAlone()
	defer p.Close()
	if err := peer.CheckSpaceName("No Name"); errors.Is(err, peer.ErrSpaceName) {
		fmt.Println("that is no name")
	}
	orders, err := p.Space("orders")
	if errors.Is(err, peer.ErrNotHeld) {
		log.Fatal("Config.Spaces leaves it out")
	}
	err = orders.Update(ctx, func(tx *peer.Tx) error {
		_, err := tx.Set("open").Add("1001")
		return err
	})
	if err != nil && !errors.Is(err, peer.ErrTooManySpaces) {
		log.Fatal(err)
	}
	var all []peer.SpaceStatus
	if all, err = p.Spaces(); err != nil {
		log.Fatal(err)
	}
	for _, s := range all {
		fmt.Println(s.Space, s.Keys)
	}
	// Nobody else has what is in it, so it is not dropped unless that is forced.
	if err := p.DropSpace(ctx, "orders", false); errors.Is(err, peer.ErrUnreplicated) {
		fmt.Println("no other host has it")
	}
	fmt.Println(p.DropSpace(ctx, "orders", true))
	var dropped *peer.Space
	if dropped, err = p.Space("orders"); err == nil {
		err = dropped.View(ctx, func(*peer.Tx) error { return nil })
	}
	fmt.Println(errors.Is(err, peer.ErrNotHeld))
	// A write takes it up again. One that comes while a drop is tried is refused, and is to come again.
	err = dropped.Update(ctx, func(tx *peer.Tx) error { return tx.String("k").Set([]byte("v")) })
	fmt.Println(err, errors.Is(err, peer.ErrLeaving))
	// Output:
	// that is no name
	// default 0
	// orders 1
	// peerd 1
	// no other host has it
	// <nil>
	// true
	// <nil> false
}

// A program reads, takes its time, and writes only if what it has read still holds at this peer.
func ExampleGuard() {
	p := openAlone()
	defer p.Close()
	ctx := context.Background()
	set := func(value string) error {
		return p.Update(ctx, func(tx *peer.Tx) error { return tx.String("plan").Set([]byte(value)) })
	}
	var guard peer.Guard
	defer guard.Release()
	if err := p.Update(ctx, func(tx *peer.Tx) error { tx.Guard(&guard, "plan"); return nil }); err != nil {
		log.Fatal(err)
	}
	if err := set("of somebody else"); err != nil { // meanwhile
		log.Fatal(err)
	}
	err := p.Update(ctx, func(tx *peer.Tx) error {
		if guard.Changed(tx) {
			return errors.New("the plan has changed: read it again")
		}
		return tx.String("plan").Set([]byte("mine"))
	})
	fmt.Println(err)
	// Output: the plan has changed: read it again
}

// A program keeps a copy of what it has read until that changes: in a commit after the moment that it was read at.
func ExampleTx_Moment() {
	p := openAlone()
	defer p.Close()
	ctx := context.Background()
	w := p.Watch("")
	defer w.Close()
	w.EachCommit()
	set := func(value string) {
		if err := p.Update(ctx, func(tx *peer.Tx) error { return tx.String("k").Set([]byte(value)) }); err != nil {
			log.Fatal(err)
		}
	}
	set("old")
	var kept string
	var at uint64
	if err := p.View(ctx, func(tx *peer.Tx) error {
		value, _ := tx.String("k").Get()
		kept, at = string(value), tx.Moment()
		return nil
	}); err != nil {
		log.Fatal(err)
	}
	set("new")
	for range 2 {
		change, err := w.Next(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(kept, "is out of date:", change.Reset || change.Moment > at)
	}
	// Output:
	// old is out of date: false
	// old is out of date: true
}
