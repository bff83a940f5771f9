# make        build ./muster
# make demo   from an empty Debian machine to three booted nodes (KEEP=1 leaves them running, FIRMWARE=uefi boots them by UEFI)
# make test   all tests, what they need installed first
# make test-long  what make test has no time for: the race detector, minutes of fuzzing, hundreds of kill -9
# make bench  figures beside the targets

GO      ?= go
FLAGS   := -trimpath -buildvcs=auto -ldflags "-s -w"
export CGO_ENABLED = 0

.PHONY: all demo test test-long unit bench lint clean muster
all: muster

# One static file: the command line carries the daemon, the daemon carries the node program.
muster:
	@$(GO) build $(FLAGS) -o musterd/payload/muster-node ./node
	@mkdir -p build
	@$(GO) build $(FLAGS) -o build/musterd ./musterd
	@$(GO) run ./packaging/pack build/musterd payload/musterd.zst
	@$(GO) build $(FLAGS) -o muster .
	@echo "built ./muster ($$(du -h muster | cut -f1))"

demo:
	@./demo/demo.sh

# Only what needs neither root nor other programs; seconds.
unit:
	$(GO) test -short ./...

test:
	@./demo/prepare.sh test
	@$(MAKE) --no-print-directory muster lint
	@./demo/test.sh

test-long: muster
	@./demo/long.sh

lint:
	@out=$$($(GO) tool gofumpt -l .) && test -z "$$out" || { echo "gofumpt would change:" $$out; exit 1; }
	@$(GO) vet ./...
	@$(GO) tool staticcheck ./...

bench: muster
	@./demo/bench.sh

clean:
	rm -rf build muster payload/musterd.zst musterd/payload/muster-node
