# Builds and installs peerd. What has to be true of a commit is checked by .ci/run.
#
#   make                          bin/peerd
#   make install                  as root: binary, systemd unit, settings, manual pages, completions
#   make bench BASE=COMMIT        this tree's benchmarks against a commit's: fails if something is worse by more than 5%
#   make bench BASE=COMMIT ONLY='crdt:Merge|Join'              only these of one package
#   make install DESTDIR=/tmp/x PREFIX=/usr SYSCONFDIR=/etc     for packages

PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
GO ?= go

bin = $(DESTDIR)$(PREFIX)/bin
lib = $(DESTDIR)$(PREFIX)/lib
share = $(DESTDIR)$(PREFIX)/share

build:
	CGO_ENABLED=0 GOFLAGS= $(GO) build -trimpath -buildvcs=auto -ldflags='-s -w' -o bin/peerd ./cmd/peerd

# The same commit and the same version of Go give the same bytes, in any directory: the build takes no time, path,
# host or C compiler into the binary.

install: build
	install -d $(bin) $(lib)/systemd/system $(lib)/sysusers.d $(DESTDIR)$(SYSCONFDIR)/peerd
	install -m 0755 bin/peerd $(bin)/peerd
	sed -e 's,/usr/local,$(PREFIX),' -e 's,/etc/,$(SYSCONFDIR)/,' packaging/peerd.service \
		>$(lib)/systemd/system/peerd.service
	chmod 0644 $(lib)/systemd/system/peerd.service
	install -m 0644 packaging/peerd.sysusers $(lib)/sysusers.d/peerd.conf
	[ -e $(DESTDIR)$(SYSCONFDIR)/peerd/peerd.yaml ] || \
		install -m 0644 packaging/peerd.yaml $(DESTDIR)$(SYSCONFDIR)/peerd/peerd.yaml
	install -d $(share)/bash-completion/completions $(share)/zsh/site-functions \
		$(share)/fish/vendor_completions.d $(share)/man/man1
	bin/peerd completion bash >$(share)/bash-completion/completions/peerd
	bin/peerd completion zsh >$(share)/zsh/site-functions/_peerd
	bin/peerd completion fish >$(share)/fish/vendor_completions.d/peerd.fish
	bin/peerd man $(share)/man/man1

bench:
	$(GO) -C bench run . compare '$(BASE)' '$(ONLY)'

.DEFAULT_GOAL := build
.PHONY: build install bench
