package main

import (
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/spf13/pflag"
)

// reloader takes over changed settings while a daemon runs, at SIGHUP. One goroutine owns it.
type reloader struct {
	running *config // what the daemon runs with
	daemon  *daemon
	level   *slog.LevelVar
}

// follow reloads at each signal. The function it returns ends that, and waits for it.
func (r *reloader) follow(hangups <-chan os.Signal) (stop func()) {
	end := make(chan struct{})
	var following sync.WaitGroup
	following.Go(func() {
		for {
			select {
			case <-hangups:
				r.reload()
			case <-end:
				return
			}
		}
	})
	return func() {
		close(end)
		following.Wait()
	}
}

// reload reads file and environment again, behind the same flags, takes over what can change, and
// says in the log what cannot. With a mistake in the settings, or in a file that they name, nothing
// changes.
func (r *reloader) reload() {
	log := r.daemon.log
	next, err := r.running.given.load()
	if err == nil {
		err = r.daemon.reload(next.settings)
	}
	if err != nil {
		log.Error("settings, passwords and certificates are left as they were",
			"error", err)
		return
	}
	r.level.Set(next.level())
	changed := 0
	next.public(func(f *pflag.Flag) {
		old := r.running.flags.Lookup(f.Name)
		if slices.Equal(textOf(old), textOf(f)) {
			return
		}
		from := next.sourceOf(f.Name)
		if reloadOf(f) != ofSetting {
			log.Warn("setting changes at a restart only", "setting", f.Name,
				"running", old.Value, "wanted", f.Value, "set_by", from)
			return
		}
		log.Info("setting changed", "setting", f.Name, "was", old.Value, "is", f.Value, "set_by", from)
		_ = setFlag(old, textOf(f)...) // the same table took it
		changed++
	})
	log.Info("settings reloaded", "changed", changed)
}

// reload takes over the settings that can change while the daemon runs. It is called at each
// SIGHUP, also if no setting has changed: a file that one of them names may have. After an error,
// which names every file that cannot be used, all is as it was.
func (d *daemon) reload(next settings) error {
	use, err := d.credentials.reload()
	if err != nil {
		return err
	}
	if err := d.peer.Reload(next.peer); err != nil {
		return err
	}
	aimHeap(next.peer.CacheBytes)
	use()
	return nil
}
