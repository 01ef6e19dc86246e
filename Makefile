# The few things one does with the tree; everything is done by a script that
# can be called alone. GODWIT_NATIVE=1 uses this machine (Debian 13) instead of
# the cached Debian 13 root.
.PHONY: all image demo test bench kube-demo kube-bench kube-bench-files lab-up lab-down clean fmt limits help

all:
	@tools/build
image:
	@tools/image
demo:
	@tools/godwit-lab demo $(ARGS)
test:
	@tools/test $(ARGS)
bench:
	@bench/run $(ARGS)
kube-demo:
	@tests/kube/demo $(ARGS)
kube-bench-files:
	@bench/kube-files $(ARGS)
kube-bench:
	@bench/kube $(ARGS)
lab-up:
	@tools/godwit-lab up $(ARGS)
lab-down:
	@tools/godwit-lab down
fmt:
	@tools/in-root sh -c 'clang-format -i $$(git ls-files "*.c" "*.h" 2>/dev/null || find cmd src preload tests bench fuzz -name "*.[ch]")'
limits:
	@tools/build --quiet && tools/in-root build/gen-limits > docs/limits.md
clean:
	@rm -rf build build-test build-asan build-fuzz
help:
	@printf '%s\n' 'make           build into build/' 'make demo      five live migrations of a redis under load (ARGS="--mib 1024 --rate 5000 --times 5")' \
	 'make test      all tests' 'make bench     the benchmark (ARGS="--rss 1024 --rate 5000 --runs 3" for one row)' \
	 'make image     the container image, build/image/godwit.tar' \
	'make kube-demo  pods move between the nodes of a Kubernetes on this machine (ARGS=--quick)' \
	'make kube-bench  pods on a Kubernetes on this machine (ARGS="--kind Deployment --rss 1024 --runs 3" for one row)' \
	 'make lab-up    two hosts to play with' 'make lab-down  and gone' 'make fmt       clang-format' 'make clean     remove the build folders'
