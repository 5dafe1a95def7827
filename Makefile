# make distill       set-up of a fresh Debian 12 with the Swift toolchain, the static binary, and the demo
# make test          the same set-up, and every test
# make test-faults   makes every system call of every command fail, kills, damages, cuts the power: some 62,000 faults
# make soak          trains for HOURS=1, killed and resumed again and again; goes on where it was stopped
# make coverage      lines of parsers and of the code of checkpoints that the tests run
# make test-interop  exchanges files with PyTorch, timm, transformers, onnxruntime and TensorBoard, which it installs apart
# make build         the static binary only
# make mpi           dmae-mpi, for runs of several processes and machines: .build/dmae-mpi, static as well; MPICC=mpicc.openmpi takes
#                    another MPI, with its shared libraries
# make test-mpi      runs of several processes: same bytes, kills, cut connections
# make library       libdmae.so, libdmae.a and dmae.h: an encoder inside programs in C and other languages; in .build/library
# make install       the binary, man pages and completions, below PREFIX=/usr/local; dmae-mpi and the library too, if they were made
# make dist          an archive of the binary, man pages and completions; make deb a Debian package; both in .build/dist
# make perf          benchmarks of the kernels
# make perf-check    the same; fails if a row is slower than its record
# make perf-peers    matmuls and the steps beside PyTorch, OpenBLAS and BLIS
# make perf-tables   writes the tables of the pages from Perf/results
# make claims        trains and measures students for the paper's claims: most of a day; QUICK=1 under fifteen minutes;
#                    CLAIM=1 and SETTING=fashion choose a part
# make claims-page   fills the page Claims from the measurements
# make fuzz          fuzzes the readers of foreign files
# make test-sanitizers  tests of kernels and readers under AddressSanitizer and UndefinedBehaviorSanitizer
# make format        formats Swift and C; make format-check fails if a file is not formatted
# make clean

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.SILENT:
MAKEFLAGS += --no-print-directory

PREFIX ?= /usr/local
BINARY := .build/dmae
MPI_BINARY := .build/dmae-mpi
LIBRARY := .build/library
# "+" stands for files that were changed since.
export DMAE_COMMIT := $(shell git describe --always --exclude="*" --abbrev=12 --dirty=+ 2>/dev/null)
CLANG = $$(dirname "$$(command -v swift)")/clang

# The OpenMP runtime is built once per machine and kept outside .build, so that a fresh clone builds quickly.
export DMAE_OPENMP ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/dmae/openmp-19
OPENMP := $(DMAE_OPENMP)/lib/libomp.a

# Headers and static archives of the binary; build tools; libraries that the Swift toolchain needs.
PACKAGES := libc6-dev libstdc++-12-dev libomp-19-dev libjpeg62-turbo-dev libpng-dev libwebp-dev zlib1g-dev \
            binutils ca-certificates cmake make git gcc g++ python3 dpkg-dev xz-utils \
            libncurses6 libcurl4 libxml2 libsqlite3-0 libedit2
# What a static dmae-mpi is linked of, and what starts its processes.
MPI_PACKAGES := libmpich-dev mpich libucx-dev libhwloc-dev libpciaccess-dev libnuma-dev libltdl-dev
TEST_PACKAGES := qemu-user strace iproute2

STATIC := -c release --static-swift-stdlib -Xswiftc -static-executable

.PHONY: build mpi test-mpi library distill test test-faults soak coverage test-interop test-sanitizers perf perf-check perf-tables perf-peers claims claims-page fuzz \
        format format-check install install-files install-library dist deb notices clean packages test-packages
build: $(BINARY)

packages:
	$(call install-missing,$(PACKAGES))

test-packages: packages
	$(call install-missing,$(TEST_PACKAGES))

# dpkg also knows packages that were removed but not purged, so the status must be "installed".
define install-missing
missing=$$(for package in $(1); do \
  dpkg-query -W -f '$${db:Status-Status}\n' $$package 2>/dev/null | grep -qx installed || echo $$package; \
done); \
if [ -n "$$missing" ]; then $(call install-packages,$$missing); fi
endef

define install-packages
echo "Installing" $(1); \
$(as-root) apt-get update -qq && \
$(as-root) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(1) >/dev/null
endef
as-root := $$([ $$(id -u) = 0 ] || echo sudo)

# Debian's libomp-19-dev has the shared library only. The static one is built from its source package, unpacked in part.
# The source index goes into a private apt state, so that the machine's own sources do not change.
$(OPENMP): | packages
	work=$$(mktemp -d); trap 'rm -rf "$$work"' EXIT
	mkdir -p "$$work"/lists/partial "$$work"/cache/archives/partial "$$work/build"
	chmod -R a+rX "$$work"
	# Container images often come without package lists.
	repositories() { apt-get indextargets --format '$$(REPO_URI) $$(RELEASE)' 'Created-By: Packages' 'Component: main' 'Origin: Debian'; }
	[ -n "$$(repositories)" ] || $(as-root) apt-get update -qq
	repositories | sort -u | \
	  sed 's|^|deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] |; s|$$| main|' > "$$work/sources.list"
	private="-o Dir::Etc::SourceList=$$work/sources.list -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists=$$work/lists \
	  -o Dir::Cache=$$work/cache -o APT::Sandbox::User=root"
	version=$$(dpkg-query -W -f '$${source:Version}' libomp-19-dev)
	echo "Building a static LLVM OpenMP runtime ($$version), once for this machine"
	apt-get $$private -qq update
	(cd "$$work" && apt-get $$private -qq source --download-only "llvm-toolchain-19=$$version" >/dev/null)
	tar -C "$$work" --strip-components=1 --wildcards -xf "$$work"/llvm-toolchain-19_*.orig.tar.xz '*/openmp/*' '*/cmake/*'
	cmake -S "$$work/openmp" -B "$$work/build" -G "Unix Makefiles" -DCMAKE_BUILD_TYPE=Release \
	  -DCMAKE_C_COMPILER="$(CLANG)" -DCMAKE_CXX_COMPILER="$(CLANG)++" -DCMAKE_INSTALL_PREFIX="$(DMAE_OPENMP)" \
	  -DOPENMP_STANDALONE_BUILD=ON -DLIBOMP_ENABLE_SHARED=OFF -DOPENMP_ENABLE_LIBOMPTARGET=OFF -DLIBOMP_OMPT_SUPPORT=OFF \
	  -DLIBOMP_INSTALL_ALIASES=OFF > "$$work/configure.log" 2>&1 || { tail -n 20 "$$work/configure.log" >&2; exit 1; }
	cmake --build "$$work/build" --target omp -j 2 > "$$work/build.log" 2>&1 || { tail -n 20 "$$work/build.log" >&2; exit 1; }
	mkdir -p "$(DMAE_OPENMP)/lib" "$(DMAE_OPENMP)/include"
	cp "$$work/build/runtime/src/omp.h" "$(DMAE_OPENMP)/include/"
	cp "$$work/build/runtime/src/libomp.a" "$@.part"
	mv "$@.part" "$@"

# FORCE: swift build itself decides which files are out of date.
$(BINARY): FORCE | packages $(OPENMP)
	swift build $(STATIC) --product dmae 2>&1 | \
	  (grep --line-buffered -v 'in statically linked applications requires\|is dangerous, better use' || true)
	nm .build/release/dmae | grep -c __kmpc_fork_call > /dev/null || { echo "error: the build holds no OpenMP; clang compiled serial code" >&2; exit 1; }
	strip -o $@ .build/release/dmae
FORCE:

# The same objects as those of the binary, linked with MPI.
mpi: build | mpi-packages
	/usr/bin/python3 Sources/CRanks/link.py .build/release $(MPI_BINARY) $(MPICC)

.PHONY: mpi-packages
mpi-packages:
	$(call install-missing,$(MPI_PACKAGES))

# The library is linked of the same objects as the binary.
library: | packages $(OPENMP)
	swift build $(STATIC) --target DmaeLibrary 2>&1 | (grep -E -A3 'error:' || true)
	/usr/bin/python3 Sources/CDmae/link.py .build/release $(LIBRARY)

# swift-format comes with the toolchain. clang-format is Debian's; the version is fixed because versions format differently.
SWIFT_SOURCES := Sources Tests Perf Package.swift
CLANG_FORMAT := clang-format-19
c-sources = $$(git ls-files '*.c' '*.h')
format: | packages
	swift format format --in-place --parallel --recursive $(SWIFT_SOURCES)
	command -v $(CLANG_FORMAT) > /dev/null || { $(call install-packages,$(CLANG_FORMAT)); }
	$(CLANG_FORMAT) -i $(c-sources)

# C is checked only if clang-format is installed.
format-check:
	swift format lint --strict --parallel --recursive $(SWIFT_SOURCES) || { echo "error: run make format" >&2; exit 1; }
	! command -v $(CLANG_FORMAT) > /dev/null || $(CLANG_FORMAT) --dry-run --Werror $(c-sources)

test: build library mpi test-packages format-check
	swift build -c release --build-tests --scratch-path .build/tests
	DMAE_BINARY="$$PWD/$(BINARY)" DMAE_LIBRARY="$$PWD/$(LIBRARY)" swift test -c release --skip-build --disable-swift-testing --scratch-path .build/tests
	/usr/bin/python3 Tests/Faults/faults.py --dmae $(BINARY) --short
	/usr/bin/python3 Tests/Ranks/ranks.py --dmae $(BINARY) --mpi $(MPI_BINARY) --short

# FILTER=killed runs the tests whose name contains this text; SEED= repeats.
test-mpi: mpi test-packages
	/usr/bin/python3 Tests/Ranks/ranks.py --dmae $(BINARY) --mpi $(MPI_BINARY) $(if $(FILTER),--only "$(FILTER)") \
	  $(if $(SEED),--seed $(SEED))

# PART=power tries one part: calls, kills, folders, signals, memory or power; SHARE=0.1 a tenth of the calls; SEED= repeats.
test-faults: build test-packages
	/usr/bin/python3 Tests/Faults/faults.py --dmae $(BINARY) $(if $(PART),--part $(PART)) $(if $(SHARE),--share $(SHARE)) \
	  $(if $(SEED),--seed $(SEED))

# The state is in .build/soak; AGAIN=1 forgets it.
soak: build
	/usr/bin/python3 Tests/Faults/soak.py --dmae $(BINARY) --hours $(or $(HOURS),1) $(if $(AGAIN),--again)

# A build of its own of the tests and of the program that they run; FILTER= runs some of them only. C is not counted: a
# counter in each loop of a kernel makes it many times slower.
COVERAGE := .build/coverage
COVERED_TESTS := WeightTests|ImageTests|TrainingTests|InterchangeTests|Resume|RunSta|RunFaultTests|FailedStartTests|TensorBoardTests|ReportTests
COVERED_TESTS := $(COVERED_TESTS)|OutputFaultTests|ImagePlacesTests|FinetuneTests|ConvertTests
coverage: test-packages | packages $(OPENMP)
	swift build -c release --build-tests --enable-code-coverage --scratch-path $(COVERAGE) \
	  -Xcc -fno-profile-instr-generate -Xcc -fno-coverage-mapping 2>&1 | (grep -E -A3 'error:' || true)
	rm -rf $(COVERAGE)/profiles
	# A file for each process: where one adds its counts to a file that is there, those of functions which the optimised
	# program holds twice are doubled each time, until they overflow.
	LLVM_PROFILE_FILE="$$PWD/$(COVERAGE)/profiles/%p.profraw" DMAE_BINARY="$$PWD/$(COVERAGE)/release/dmae" \
	  swift test -c release --skip-build --disable-swift-testing --scratch-path $(COVERAGE) \
	  --filter "$(or $(FILTER),$(COVERED_TESTS))" --skip AllocationTests 2>&1 | (grep -E 'error:|Executed .* tests' || true)
	/usr/bin/python3 Tests/Coverage/coverage.py $(COVERAGE) $(if $(LINES),--lines)

# PyTorch and other tools, with fixed versions, are installed outside .build like the OpenMP runtime, and again when the
# versions change. FILTER=onnx runs the tests whose name contains this text; LARGE=1 adds the conversion of a ViT-L of 1.3 GB.
INTEROP ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/dmae/interop
test-interop: build
	if ! cmp -s Tests/Interop/requirements.txt "$(INTEROP)/requirements.txt"; then
	  /usr/bin/python3 -c 'import ensurepip' 2>/dev/null || { $(call install-packages,python3-venv); }
	  echo "Installing PyTorch, timm, transformers, onnxruntime and TensorBoard into $(INTEROP), once for this machine"
	  rm -rf "$(INTEROP)"
	  /usr/bin/python3 -m venv "$(INTEROP)"
	  # PyPI's PyTorch includes gigabytes for GPUs; PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS may point to CPU builds.
	  "$(INTEROP)/bin/pip" --disable-pip-version-check install --quiet -r Tests/Interop/requirements.txt
	  cp Tests/Interop/requirements.txt "$(INTEROP)/"
	fi
	DMAE_BINARY="$$PWD/$(BINARY)" DMAE_LARGE="$(LARGE)" "$(INTEROP)/bin/python" Tests/Interop/run.py $(FILTER)

DEMO := .build/demo
HELD_OUT := $(addprefix Fixtures/demo/held-out/,buildings-home6.jpg food-lemon.jpg people-smiley006.jpg plants-sun-flower-ganson.jpg \
              recreation-rubber-duck2-ganson.jpg transportation-little-tan-suitcase-jona.png)
distill: build
	rm -rf $(DEMO) && mkdir -p $(DEMO)
	$(BINARY) distill --recipe demo --precision f32 --teacher Fixtures/demo/teacher.safetensors --data Fixtures/demo/images --output $(DEMO)/run
	echo
	$(BINARY) reconstruct --weights $(DEMO)/run/model.safetensors --input $(HELD_OUT) --stretch --seed 5 --output $(DEMO)/reconstruction.png

install: build
	$(MAKE) install-files
	[ ! -e $(MPI_BINARY) ] || install -m 755 $(MPI_BINARY) "$(DESTDIR)$(PREFIX)/bin/dmae-mpi"
	[ ! -e $(LIBRARY)/libdmae.so ] || $(MAKE) install-library

# The files of `install` that packages have, too, of a binary that is there.
install-files:
	install -D -m 755 $(BINARY) "$(DESTDIR)$(PREFIX)/bin/dmae"
	for shell in bash zsh fish; do
	  case $$shell in
	    bash) place=share/bash-completion/completions/dmae ;;
	    zsh) place=share/zsh/site-functions/_dmae ;;
	    fish) place=share/fish/vendor_completions.d/dmae.fish ;;
	  esac
	  mkdir -p "$$(dirname "$(DESTDIR)$(PREFIX)/$$place")"
	  $(BINARY) --generate-completion-script $$shell > "$(DESTDIR)$(PREFIX)/$$place"
	done
	/usr/bin/python3 Sources/dmae/manual.py $(BINARY) "$(DESTDIR)$(PREFIX)/share/man/man1"

# The library that is there, for `cc … -ldmae`.
install-library:
	mkdir -p "$(DESTDIR)$(PREFIX)/lib/pkgconfig" "$(DESTDIR)$(PREFIX)/include"
	cp -P $(LIBRARY)/libdmae.* "$(DESTDIR)$(PREFIX)/lib/"
	install -m 644 Sources/CDmae/include/dmae.h "$(DESTDIR)$(PREFIX)/include/"
	version=$$(basename "$$(readlink -f $(LIBRARY)/libdmae.so)"); version=$${version#libdmae.so.}
	sed "s|@PREFIX@|$(PREFIX)|; s|@VERSION@|$$version|" Sources/CDmae/dmae.pc.in > "$(DESTDIR)$(PREFIX)/lib/pkgconfig/dmae.pc"

# Packages of the static binary. Both have the same bytes whenever they are made from one binary and one commit.
DIST := .build/dist
dist: build
	/usr/bin/python3 Sources/dmae/package.py archive $(BINARY) $(DIST)

deb: build
	/usr/bin/python3 Sources/dmae/package.py debian $(BINARY) $(DIST)

# The licences that `dmae doctor --licenses` prints, from the packages of this machine.
notices: | packages
	/usr/bin/python3 Sources/dmae/package.py notices Sources/CBuild/third-party-notices.txt

# FILTER=attention measures the rows whose title contains this text.
KERNEL_BENCHMARK := .build/perf/release/kernel-benchmark
define build-kernel-benchmark
swift build -c release --scratch-path .build/perf --product kernel-benchmark 2>&1 | (grep -E -A3 'error:' || true)
endef
perf: | packages $(OPENMP)
	$(build-kernel-benchmark)
	$(KERNEL_BENCHMARK) $(if $(FILTER),--filter "$(FILTER)")

# Compares every row's ratio with Perf/thresholds.json; RECORD=1 writes the file instead.
perf-check: | packages $(OPENMP)
	$(build-kernel-benchmark)
	$(KERNEL_BENCHMARK) $(if $(FILTER),--filter "$(FILTER)") --$(if $(RECORD),record,check) Perf/thresholds.json

# The tables of README.md and of the page Performance, from the measurements in Perf/results.
perf-tables: | packages $(OPENMP)
	$(build-kernel-benchmark)
	$(KERNEL_BENCHMARK) --tables

# Other libraries and ours in turns. FILTER=products, "step bf16 0.75" or finetune selects rows; ROUNDS=, STEPS= and BATCH= set
# the length; CHECK=1 compares the ratios with Perf/thresholds.json, RECORD=1 writes them there.
PEERS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/dmae/peers
PEER_PACKAGES := python3-venv python3-dev g++
perf-peers: build | packages $(OPENMP)
	python3 -c 'import ensurepip, os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null || \
	  { $(call install-packages,$(PEER_PACKAGES)); }
	$(build-kernel-benchmark)
	Perf/peers/install.sh "$(PEERS)"
	$(PEERS)/venv/bin/python Perf/peers/compare.py --peers "$(PEERS)" --dmae $(BINARY) --kernel-benchmark $(KERNEL_BENCHMARK) \
	  --results .build/perf/peers.json $(if $(FILTER),--filter "$(FILTER)") $(if $(ROUNDS),--rounds $(ROUNDS)) \
	  $(if $(STEPS),--steps $(STEPS)) $(if $(BATCH),--batch $(BATCH))
	$(if $(CHECK)$(RECORD),$(KERNEL_BENCHMARK) --results .build/perf/peers.json --$(if $(RECORD),record,check) Perf/thresholds.json)

# Goes on where it was stopped; CLAIM=3 measures one claim only. Data: Debian's dataset-fashion-mnist and openclipart-png.
CLAIMS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/dmae/claims
# Runs, data sets and a Python with Pillow, which writes the pictures of openclipart, and matplotlib, which draws the plots.
CLAIMS_PACKAGES := dataset-fashion-mnist $(if $(QUICK),,openclipart-png python3-venv)
CLAIMS_PYTHON := $(if $(QUICK),python3,$(CLAIMS)/venv/bin/python)
$(CLAIMS)/venv/bin/python:
	$(call install-missing,$(CLAIMS_PACKAGES))
	/usr/bin/python3 -m venv "$(CLAIMS)/venv.part"
	"$(CLAIMS)/venv.part/bin/pip" --disable-pip-version-check install --quiet pillow==13.0.0 matplotlib==3.11.2
	mv "$(CLAIMS)/venv.part" "$(CLAIMS)/venv"

claims: build $(if $(QUICK),,$(CLAIMS)/venv/bin/python)
	$(call install-missing,$(CLAIMS_PACKAGES))
	"$(CLAIMS_PYTHON)" Perf/claims/claims.py --dmae $(BINARY) --work "$(CLAIMS)" $(if $(QUICK),--quick) \
	  $(if $(CLAIM),--claim $(CLAIM)) $(if $(SETTING),--setting $(SETTING))

claims-page: $(CLAIMS)/venv/bin/python
	"$(CLAIMS)/venv/bin/python" Perf/claims/page.py

# Runs each reader of foreign files for SECONDS on inputs generated by libFuzzer, under AddressSanitizer, its C also under
# UndefinedBehaviorSanitizer; see Fixtures/fuzz.
FUZZ := .build/fuzz
# The readers of pictures, of any kind; each format in `PICTURES` has a run of its own, from all its files in Fixtures/pictures.
FUZZED_PICTURES := Pixels Pixels+Decoding Pixels+Orientation FileKind FileBytes PictureDecoder GIFDecoder BMPDecoder PNMDecoder \
                   PNGChunks StoredOrientation PictureReading PictureTally SampleConversion
PICTURES := jpg png webp gif bmp pnm
FUZZED_CODECS := jpeg png webp
# The readers of sources of images: of archives, of kept indexes of archives, and of lists.
FUZZED_SOURCES := ArchiveBytes TarReader PathTable ArchiveIndex ArchiveIndex+Coding FileStamp ArchiveName ImageExtension Debris DelimitedText
FUZZER := swiftc -O -swift-version 5 -sanitize=fuzzer,address -parse-as-library -package-name dmae -I $(FUZZ)
# $(call run-fuzzer,PROGRAM,NAME,SEEDS,MEGABYTES of one allocation,BYTES of an input)
define run-fuzzer
mkdir -p "$(FUZZ)/corpus/$(2)"; \
echo "$(2): $(or $(SECONDS),60) seconds"; \
$(FUZZ)/$(1) -max_total_time=$(or $(SECONDS),60) -max_len=$(5) -timeout=10 -malloc_limit_mb=$(4) -rss_limit_mb=1024 \
  -print_final_stats=1 -artifact_prefix=$(FUZZ)/found/$(2)- "$(FUZZ)/corpus/$(2)" $(3)
endef
# $(call link-fuzzer,NAME,WHAT ELSE)
link-fuzzer = $(FUZZER) Tests/Fuzz/$(1).swift $(2) -o $(FUZZ)/$(1) 2>&1 | (grep -v 'Cannot export local symbol' || true)
fuzz: | packages $(OPENMP)
	mkdir -p $(FUZZ)/found
	swiftc -O -swift-version 5 -package-name dmae -emit-module -emit-library -static -module-name Reporting \
	  -emit-module-path $(FUZZ)/Reporting.swiftmodule -o $(FUZZ)/libReporting.a Sources/Reporting/*.swift
	for target in safetensors archive pickle; do
	  $(call link-fuzzer,$$target,-module-name Weights Sources/Weights/*.swift Tests/Fuzz/Reading.swift -L $(FUZZ) -lReporting)
	  $(call run-fuzzer,$$target,$$target,Fixtures/fuzz/$$target,64,16384)
	done
	for target in tar index table; do
	  $(call link-fuzzer,$$target,-module-name Fuzz $(FUZZED_SOURCES:%=Sources/Images/%.swift) -L $(FUZZ) -lReporting)
	  $(call run-fuzzer,$$target,$$target,Fixtures/fuzz/$$target,64,16384)
	done
	printf 'module CCodecs { header "%s/Sources/CCodecs/include/dmae_codecs.h" }\n' "$$PWD" > $(FUZZ)/module.modulemap
	for codec in $(FUZZED_CODECS); do
	  $(CLANG) -g -O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -ISources/CCodecs/include \
	    -c Sources/CCodecs/$$codec.c -o $(FUZZ)/$$codec.o
	done
	for target in picture exif; do
	  $(call link-fuzzer,$$target,-module-name Fuzz $(FUZZED_PICTURES:%=Sources/Images/%.swift) $(FUZZED_CODECS:%=$(FUZZ)/%.o) \
	    -L $(FUZZ) -lReporting -ljpeg -lpng -lwebpdemux -lwebp -lz)
	done
	for format in $(PICTURES); do
	  seeds=$(FUZZ)/seeds/$$format
	  mkdir -p $$seeds
	  find Fixtures/pictures Fixtures/fuzz/picture -type f \( -name "*.$$format" -o -name "*.$${format/pnm/p[bgp]m}" \) -exec cp -t $$seeds {} +
	  $(call run-fuzzer,picture,$$format,$$seeds,256,4096)
	done
	$(call run-fuzzer,exif,exif,Fixtures/fuzz/exif,64,16384)
	# What reads a folder of weights or of a run needs most rooms: of these only the Swift is instrumented.
	swift build -c release --scratch-path $(FUZZ)/rooms -Xswiftc -sanitize=fuzzer,address --target Training 2>&1 | (grep -E -A3 'error:' || true)
	rooms=$(FUZZ)/rooms/release
	objects=$$(for room in CKernels CCodecs Reporting Tensors Images Weights Models SwiftProtobuf Interchange Training; do \
	  find "$$rooms/$$room.build/" -name '*.o'; done)
	for target in config run; do
	  $(call link-fuzzer,$$target,-module-name Fuzz Tests/Fuzz/Folder.swift -I $$rooms/Modules \
	    -Xcc -fmodule-map-file=$$rooms/CKernels.build/module.modulemap -Xcc -fmodule-map-file=$$rooms/CCodecs.build/module.modulemap \
	    $$objects -L $(DMAE_OPENMP)/lib -lomp -ljpeg -lpng -lwebpdemux -lwebp -lz)
	  $(call run-fuzzer,$$target,$$target,Fixtures/fuzz/$$target,64,16384)
	done

# The tests of the C kernels and of all that reads files, under AddressSanitizer and UndefinedBehaviorSanitizer; FILTER=KernelTests
# runs a part of them. Checks of AddressSanitizer are calls, since inline ones of one kernel take minutes to compile. The program that
# some tests start is the ordinary one.
SANITIZERS := .build/sanitizers
SANITIZED_TESTS := ReportingTests|KernelTests|TensorTests|WeightTests|ImageTests|InterchangeTests
# Swift has no UndefinedBehaviorSanitizer on Linux, and traps by itself; the C has it.
SANITIZE := --sanitize address -Xcc -fsanitize=undefined -Xcc -fno-sanitize-recover=undefined -Xcc -O1 \
            -Xcc -mllvm -Xcc -asan-instrumentation-with-call-threshold=0
test-sanitizers: build test-packages
	swift build --build-tests --scratch-path $(SANITIZERS) $(SANITIZE) 2>&1 | (grep -E -A3 'error:' || true)
	DMAE_BINARY="$$PWD/$(BINARY)" UBSAN_OPTIONS=print_stacktrace=1 swift test --skip-build --disable-swift-testing \
	  --scratch-path $(SANITIZERS) $(SANITIZE) --filter '$(or $(FILTER),$(SANITIZED_TESTS))'

clean:
	rm -rf .build
