import Foundation
import Images
import TestSupport
import Weights
import XCTest

/// The library for C, as `make library` makes it: used from C, C++ and Python, its numbers are the program's to the bit.
final class LibraryTests: XCTestCase {
    private static let root = URL(fileURLWithPath: Fixtures.folder).deletingLastPathComponent()
    /// The folder of libdmae.so and libdmae.a.
    private static let folder =
        ProcessInfo.processInfo.environment["DMAE_LIBRARY"] ?? root.appendingPathComponent(".build/library").path
    private static let include = root.appendingPathComponent("Sources/CDmae/include").path
    private static let files = TemporaryFolder()

    private func source(_ path: String) -> String { Self.root.appendingPathComponent(path).path }

    private struct NoLibrary: Error, CustomStringConvertible {
        let description: String
    }

    override func setUpWithError() throws {
        continueAfterFailure = false
        let library = Self.folder + "/libdmae.so"
        guard FileManager.default.fileExists(atPath: library) else {
            throw NoLibrary(description: "no \(library): `make library` makes it")
        }
    }

    @discardableResult
    private func run(
        _ executable: String, _ arguments: [String], environment: [String: String] = [:], line: UInt = #line
    ) -> Command.Result {
        let result = Command.run(arguments, executable: executable, environment: environment)
        XCTAssertEqual(result.end, .exited(0), result.description, line: line)
        return result
    }

    private static let shared = ["-L\(folder)", "-ldmae", "-Wl,-rpath,\(folder)"]
    private static let archive = [folder + "/libdmae.a", "-lm"]

    /// Compiles a program with every warning as an error, and gives its path.
    private func compile(_ path: String, _ compiler: [String], _ libraries: [String]) -> String {
        let program = Self.files.file("program-\(UInt64.random(in: 0 ... .max))")
        let result = run(
            "/usr/bin/env",
            compiler + ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I\(Self.include)", source(path), "-o", program]
                + libraries)
        XCTAssertEqual(result.errors, "")
        return program
    }

    /// Tests/Library/library.c, linked with the shared library.
    private static var compiled: String?
    private func program() -> String {
        if Self.compiled == nil {
            Self.compiled = compile("Tests/Library/library.c", ["cc", "-std=c11"], Self.shared + ["-lm"])
        }
        return Self.compiled!
    }

    /// The files of pictures as PPM files, decoded as the program does it; grey ones as PGM.
    private func decoded(_ paths: [String], channels: Int = 3) throws -> [String] {
        try paths.map { path in
            let picture = try Pixels(contentsOf: path, channels: channels)
            let name = "\(UInt64.random(in: 0 ... .max)).ppm"
            let header = "P\(channels == 3 ? 6 : 5)\n\(picture.width) \(picture.height)\n255\n"
            return Self.files.write(Array(header.utf8) + picture.bytes, name)
        }
    }

    /// The bytes of `dmae embed`'s features of pictures, in their order, which must be that of their paths.
    private func embedded(_ weights: String, _ pictures: [String], _ options: [String]) throws -> [UInt8] {
        let output = Self.files.file("\(UInt64.random(in: 0 ... .max)).safetensors")
        assertRuns(["embed", "--weights", weights, "--quiet", "--output", output, "--data"] + pictures + options)
        return bytes(try SafeTensorsFile(path: output).floats("features"))
    }

    private func bytes(_ floats: [Float]) -> [UInt8] { floats.withUnsafeBytes { [UInt8]($0) } }

    private func result(of words: [String], environment: [String: String] = [:]) -> (bytes: [UInt8], output: String) {
        let output = Self.files.file("\(UInt64.random(in: 0 ... .max)).raw")
        let result = run(
            program(), words.map { $0 == "OUTPUT" ? output : $0 }, environment: environment)
        XCTAssertEqual(result.errors, "")
        return ([UInt8](FileManager.default.contents(atPath: output) ?? Data()), result.output)
    }

    private static let classifiers = ["timm", "timm-mean", "transformers"].map { Fixtures.path("classifiers/\($0)") }
    /// In the order of their paths.
    private static let pictures: [String] = {
        let folder = Fixtures.path("demo/held-out")
        return try! FileManager.default.contentsOfDirectory(atPath: folder).sorted().map { "\(folder)/\($0)" }
    }()

    // MARK: The example

    /// The example of dmae.h, as C and as C++, with both forms of the library.
    func testExampleInC() throws {
        let pictures = Array(Self.pictures.prefix(3)), files = try decoded(pictures)
        let weights = Self.classifiers[1]
        let wanted = try embedded(weights, pictures, [])
        let lines = assertRuns(["predict", "--quiet", "--weights", weights] + pictures).output
        for (compiler, libraries) in [
            (["cc", "-std=c11"], Self.shared), (["cc", "-std=c11"], Self.archive),
            (["c++", "-x", "c++", "-std=c++17"], Self.shared),
        ] {
            let program = compile("Sources/CDmae/example/embed.c", compiler, libraries)
            let output = Self.files.file("features.raw")
            let result = run(program, [weights] + files + ["--output", output])
            XCTAssertEqual([UInt8](FileManager.default.contents(atPath: output) ?? Data()), wanted, "\(compiler)")
            var found = result.output
            for (file, picture) in zip(files, pictures) { found = found.replacingOccurrences(of: file, with: picture) }
            XCTAssertTrue(found.hasSuffix("...\n" + lines), found)
            XCTAssertTrue(result.errors.contains("pixels: mean 0.485"), result.errors)
            XCTAssertNotEqual(Command.run([], executable: program).end, .exited(0))
            let refused = Command.run(["nowhere", files[0]], executable: program)
            XCTAssertEqual(refused.end, .exited(1))
            XCTAssertTrue(refused.errors.hasPrefix("nowhere: cannot open \"nowhere\": No such file"), refused.errors)
        }
    }

    /// The example for ctypes. In a process that forks, and in threads, Python gets the same numbers.
    func testExampleInPython() throws {
        let pictures = Array(Self.pictures.prefix(3)), files = try decoded(pictures)
        let example = source("Sources/CDmae/example/embed.py"), library = ["--library", Self.folder + "/libdmae.so"]
        let weights = Self.classifiers[1], output = Self.files.file("python.raw")
        let result = run("/usr/bin/python3", [example, weights] + files + ["--output", output] + library)
        XCTAssertEqual(
            [UInt8](FileManager.default.contents(atPath: output) ?? Data()), try embedded(weights, pictures, []))
        var found = result.output
        for (file, picture) in zip(files, pictures) { found = found.replacingOccurrences(of: file, with: picture) }
        let lines = assertRuns(["predict", "--quiet", "--weights", weights] + pictures).output
        XCTAssertTrue(found.hasSuffix("...\n" + lines), found)
        let refused = Command.run([example, "nowhere", files[0]] + library, executable: "/usr/bin/python3")
        XCTAssertEqual(refused.end, .exited(1))
        XCTAssertTrue(refused.errors.hasPrefix("nowhere: cannot open \"nowhere\": No such file"), refused.errors)
        let program = """
            import os, sys, threading
            sys.path.insert(0, os.path.dirname(sys.argv[1]))
            import embed
            encoders = [embed.Encoder(sys.argv[3], sys.argv[2]) for _ in range(2)]
            pictures = [embed.read_picture(path) for path in sys.argv[4:]]
            wanted, found = bytes(encoders[0].encode(pictures)), []
            def work(encoder):
                for _ in range(10): found.append(bytes(encoder.encode(pictures)))
            threads = [threading.Thread(target=work, args=(encoders[i % 2],)) for i in range(4)]
            for thread in threads: thread.start()
            children = []
            for _ in range(5):
                child = os.fork()
                if child == 0: os._exit(0 if bytes(encoders[0].encode(pictures)) == wanted else 1)
                children.append(child)
            for thread in threads: thread.join()
            assert found == 40 * [wanted]
            assert all(os.waitpid(child, 0)[1] == 0 for child in children)
            """
        XCTAssertEqual(
            run("/usr/bin/python3", ["-c", program, example, library[1], weights] + files).errors, "")
    }

    // MARK: Numbers

    /// Features of pictures are those of `dmae embed` for their files, bit for bit: weights of every form, pictures of
    /// every size, each pool, a block, bf16, whatever the number of threads and of pictures of a call.
    func testFeaturesAreThoseOfEmbed() throws {
        let demo = Fixtures.path("demo/teacher.safetensors"), mae = Fixtures.path("weights/mae/mae.safetensors")
        let heads = (["--heads", "4"], ["--heads", "4"])
        let cases: [(String, library: [String], embed: [String])] = [
            (demo, [], []),
            (demo, ["--threads", "1", "--batch", "1"], []),
            (demo, ["--threads", "3", "--batch", "5", "--calls", "3"], ["--threads", "1"]),
            (demo, ["--pool", "2", "--padding", "7"], ["--pool", "mean"]),
            (demo, ["--pool", "3", "--block", "2", "--padding", "-5"], ["--pool", "tokens", "--block", "2"]),
            (demo, ["--precision", "1"], ["--precision", "bf16"]),
            (demo, ["--precision", "2"], ["--precision", "auto"]),
            (mae, heads.0, heads.1),
            (Fixtures.path("weights/mae/encoder.pth"), heads.0, heads.1),
            (Fixtures.path("weights/mae/finetuned.pth"), heads.0, heads.1),
            (Fixtures.path("weights/dmae/distilled.pth"), heads.0, heads.1),
            (Fixtures.path("weights/timm/timm.safetensors"), heads.0, heads.1),
            (Fixtures.path("weights/mmpretrain/mmpretrain.pth"), heads.0, heads.1),
            (Fixtures.path("weights/huggingface/vit"), [], []),
            (Fixtures.path("weights/huggingface/vitmae-sharded"), [], []),
        ]
        let files = try decoded(Self.pictures)
        for (weights, library, embed) in cases + Self.classifiers.map { ($0, [], []) } {
            let count = weights == demo ? Self.pictures.count : 5
            let files = Array(files.prefix(count))
            let wanted = try embedded(weights, Array(Self.pictures.prefix(count)), embed)
            let found = result(of: ["features"] + library + [weights, "OUTPUT"] + files)
            XCTAssertEqual(found.bytes.count, wanted.count)
            XCTAssertTrue(found.bytes == wanted, "\(weights) \(library): other bits\n\(found.output)")
            if library.contains("--padding") { continue }
            let floats = result(of: ["floats"] + library + [weights, "OUTPUT"] + files)
            XCTAssertTrue(floats.bytes == wanted, "\(weights) \(library): other bits of floats\n\(floats.output)")
        }
    }

    /// Weights of one channel take grey pictures, and the grey of coloured ones; those of three take grey ones.
    func testGreyPictures() throws {
        let run = Self.files.file("grey")
        assertRuns(TinyRun.pretrain(run, epochs: 1, ["--channels", "1", "--quiet"]))
        let grey = Fixtures.path("images/files"), names = try FileManager.default.contentsOfDirectory(atPath: grey)
        let pictures = names.sorted().map { "\(grey)/\($0)" }.filter {
            ($0.hasSuffix(".png") || $0.hasSuffix(".jpg"))
                && (try? Pixels(contentsOf: $0, as: .torchvision))
                    == (try? Pixels(contentsOf: $0))
        }
        XCTAssertGreaterThan(pictures.count, 5)
        let wanted = try embedded(run, pictures, [])
        for channels in [1, 3] {
            let found = result(of: ["features", run, "OUTPUT"] + (try decoded(pictures, channels: channels)))
            if channels == 1 { XCTAssertEqual(found.bytes, wanted) }
            XCTAssertEqual(found.bytes.count, wanted.count)
            XCTAssertTrue(found.output.contains(", 1 channels, "), found.output)
        }
        let coloured = try embedded(run, Self.pictures, [])
        XCTAssertTrue(result(of: ["features", run, "OUTPUT"] + (try decoded(Self.pictures))).bytes == coloured)
    }

    /// Logits are those of `dmae evaluate`, probabilities and names those of `dmae predict`.
    func testClassesAreThoseOfPredict() throws {
        struct Line: Decodable {
            struct Class: Decodable {
                let index: Int
                let probability: Double
            }
            let path: String
            let predictions: [Class]
        }
        let images = Fixtures.path("classifiers/images")
        for (weights, more) in Self.classifiers.map({ ($0, []) }) + [(Self.classifiers[0], ["--size", "48"])] {
            let flags = more.isEmpty ? [] : ["--image-size", "48"]
            let output = Self.files.file("logits.safetensors")
            assertRuns(
                ["evaluate", "--quiet", "--weights", weights, "--data", images, "--logits", output] + flags)
            let wanted = bytes(try SafeTensorsFile(path: output).floats("logits"))
            let paths = try String(contentsOfFile: output + ".files.txt", encoding: .utf8)
                .split(separator: "\n").map(String.init)
            let found = result(of: ["logits"] + more + [weights, "OUTPUT"] + (try decoded(paths)))
            XCTAssertTrue(found.bytes == wanted, "\(weights): other logits")
            let lines = found.output.components(separatedBy: "\n")
            XCTAssertEqual(Array(lines[2..<7]), ["ant", "bee", "cat", "dog", "emu"])
            let predicted = assertRuns(["predict", "--quiet", "--json", "--weights", weights] + paths + flags).output
                .split(separator: "\n")
            XCTAssertEqual(predicted.count, paths.count)
            var printed: [String: String] = [:]
            for line in predicted {
                let line = try JSONDecoder().decode(Line.self, from: Data(line.utf8))
                printed[line.path] = line.predictions.prefix(3).map { "\($0.index) \($0.probability)" }.joined(
                    separator: " ")
            }
            for (path, line) in zip(paths, lines[7...]) {
                let numbers = line.split(separator: " ").enumerated().map { place, text in
                    place % 2 == 0 ? String(text) : "\(Double(text)!)"
                }
                XCTAssertEqual(numbers.joined(separator: " "), printed[path])
            }
        }
    }

    // MARK: Errors

    /// Whatever is wrong with a call gives a status and a sentence, word for word. With DMAE_RECORD set they are written
    /// down instead, to be read before they are kept.
    func testRefusals() throws {
        let weights = Fixtures.path("weights/mae/mae.safetensors")
        let result = run(program(), ["refusals", weights, Self.classifiers[0]])
        XCTAssertEqual(result.errors, "")
        let found = result.output.replacingOccurrences(of: weights, with: "WEIGHTS")
        let file = URL(fileURLWithPath: source("Tests/Library/refusals.txt"))
        if ProcessInfo.processInfo.environment["DMAE_RECORD"] != nil {
            try Data(found.utf8).write(to: file)
            XCTFail("recorded, not tested")
        }
        XCTAssertEqual(found, try String(contentsOf: file, encoding: .utf8))
    }

    /// Weights that are damaged in any way give a sentence.
    func testDamagedWeights() throws {
        let whole = [UInt8](FileManager.default.contents(atPath: Fixtures.path("weights/mae/mae.safetensors"))!)
        var turned = whole
        for place in stride(from: 8, to: 400, by: 7) { turned[place] ^= 0x15 }
        for (bytes, code) in [
            (Array(whole.prefix(5)), 65), (Array(whole.prefix(whole.count / 2)), 65), (turned, 65), ([], 65),
        ] {
            let path = Self.files.write(bytes, "damaged.safetensors")
            let result = Command.run(["features", path, "x", "y"], executable: program())
            XCTAssertEqual(result.end, .exited(1))
            XCTAssertEqual(result.errors, "")
            XCTAssertTrue(result.output.hasPrefix("dmae_open: \(code) "), result.output)
            XCTAssertTrue(result.output.contains("damaged.safetensors"), result.output)
        }
    }

    // MARK: Threads and the process

    /// Two encoders in two threads of the caller have the numbers that each has alone.
    func testTwoEncodersInTwoThreads() throws {
        let output = Self.files.file("threads"),
            weights = [Self.classifiers[0], Fixtures.path("demo/teacher.safetensors")]
        run(program(), ["threads", output] + weights + (try decoded(Self.pictures)))
        for (index, path) in weights.enumerated() {
            let wanted = try embedded(path, Array(Self.pictures.dropLast(index)), [])
            XCTAssertTrue([UInt8](FileManager.default.contents(atPath: "\(output).\(index)")!) == wanted, path)
        }
    }

    /// Signals, environment and rounding of the process stay as they are, nothing is printed, and forks go on. The
    /// variables of OpenMP and Swift are those of the caller's own OpenMP and Swift.
    func testProcessStaysAsItIs() throws {
        let picture = try decoded(Array(Self.pictures.prefix(1)))[0]
        for environment in [
            [:],
            [
                "OMP_NUM_THREADS": "none", "OMP_DISPLAY_ENV": "verbose", "KMP_SETTINGS": "1", "OMP_STACKSIZE": "much",
                "KMP_AFFINITY": "verbose,compact", "OMP_PROC_BIND": "true", "OMP_THREAD_LIMIT": "1",
                "OMP_DYNAMIC": "true", "KMP_LIBRARY": "serial", "SWIFT_BACKTRACE": "enable=yes", "KMP_WARNINGS": "1",
            ],
        ] {
            let result = run(program(), ["process", Self.classifiers[1], picture], environment: environment)
            XCTAssertEqual(result.errors + result.output, "")
        }
    }

    /// The caller's OMP_NUM_THREADS is a limit of the default number of threads.
    func testThreads() throws {
        let pictures = try decoded(Array(Self.pictures.prefix(1)))
        func threads(_ more: [String], _ variable: String) -> Substring? {
            result(
                of: ["features"] + more + [Self.classifiers[0], "OUTPUT"] + pictures,
                environment: ["OMP_NUM_THREADS": variable]
            ).output
                .split(separator: "\n")[1].components(separatedBy: ", ").last?.split(separator: " ").first
        }
        let all = threads([], "")
        XCTAssertEqual(threads([], "1"), "1")
        XCTAssertEqual(threads([], " 1 ,4"), "1")
        for none in ["100000", "0", "-3", "many"] { XCTAssertEqual(threads([], none), all) }
        XCTAssertEqual(threads(["--threads", "3"], "1"), "3")
    }

    /// The library's OpenMP is its own: GCC's and LLVM's in the same process, loaded before it, go on beside it.
    func testOtherOpenMP() throws {
        let object = Self.files.file("openmp.o"), program = Self.files.file("openmp")
        run(
            "/usr/bin/env",
            [
                "cc", "-std=c11", "-Wall", "-Werror", "-fopenmp", "-I\(Self.include)", "-c",
                source("Tests/Library/openmp.c"), "-o", object,
            ])
        // GCC's calls are those of LLVM's runtime, too.
        let folder = "/usr/lib/llvm-19/lib"
        for runtime in [["-lgomp"], ["-L\(folder)", "-lomp", "-Wl,-rpath,\(folder)"]] {
            for library in [Self.shared, Self.archive] {
                run("/usr/bin/env", ["cc", object, "-o", program] + runtime + library)
                XCTAssertEqual(
                    run(program, [Self.classifiers[0]]).output, "3 threads before, 3 after, 0 other features\n")
            }
        }
    }

    // MARK: The files

    /// The shared library needs the C library alone, and neither form has other names than the functions of dmae.h.
    func testNames() throws {
        let header = try String(contentsOfFile: Self.include + "/dmae.h", encoding: .utf8)
        let pattern = try NSRegularExpression(
            pattern: "^(?!static)[a-z][a-z0-9_ ]*[ *](dmae_[a-z_]+)\\(", options: [.anchorsMatchLines])
        let declared = Set(
            pattern.matches(in: header, range: NSRange(header.startIndex..., in: header)).map {
                String(header[Range($0.range(at: 1), in: header)!])
            })
        XCTAssertGreaterThan(declared.count, 20)
        func names(_ words: [String]) -> Set<String> {
            let lines = run("/usr/bin/nm", words).output.split(separator: "\n")
            return Set(lines.compactMap { $0.split(separator: " ").last?.split(separator: "@").first.map(String.init) })
        }
        XCTAssertEqual(names(["-D", "--defined-only", Self.folder + "/libdmae.so"]), declared.union(["DMAE_0"]))
        XCTAssertEqual(
            names(["-g", "--defined-only", Self.folder + "/libdmae.a"]).filter { !$0.hasSuffix(".o:") }, declared)
        let dynamic = run("/usr/bin/readelf", ["-d", "-W", Self.folder + "/libdmae.so"]).output
        let needed = dynamic.components(separatedBy: "\n").filter { $0.contains("(NEEDED)") }
            .map { $0.components(separatedBy: "[")[1].components(separatedBy: "]")[0] }
        let loader = needed.filter { $0.hasPrefix("ld-linux") }
        XCTAssertEqual(Set(needed).subtracting(loader), ["libc.so.6", "libm.so.6"])
        XCTAssertTrue(dynamic.contains("soname: [libdmae.so.0]"), dynamic)
        // A process has little room for the variables of each thread of libraries that it loads later.
        let segments = run("/usr/bin/readelf", ["-l", "-W", Self.folder + "/libdmae.so"]).output
        let storage = segments.components(separatedBy: "\n").first { $0.hasPrefix("  TLS ") }?
            .split(separator: " ").compactMap { Int($0.dropFirst(2), radix: 16) }
        XCTAssertLessThan(try XCTUnwrap(storage)[4], 512)
    }

    /// What `make install` puts in place compiles and runs a program.
    func testInstallation() throws {
        let root = Self.files.file("root")
        run(
            "/usr/bin/make",
            ["-C", Self.root.path, "install-library", "LIBRARY=\(Self.folder)", "DESTDIR=\(root)", "PREFIX=/opt/dmae"])
        let place = root + "/opt/dmae"
        let description = try String(contentsOfFile: place + "/lib/pkgconfig/dmae.pc", encoding: .utf8)
        XCTAssertTrue(description.contains("prefix=/opt/dmae\n"), description)
        XCTAssertTrue(description.contains("Libs: -L${libdir} -ldmae\n"), description)
        XCTAssertNotNil(description.range(of: "\nVersion: [0-9]+\\.[0-9]+\\.[0-9]+\n", options: .regularExpression))
        let program = Self.files.file("installed")
        run(
            "/usr/bin/env",
            [
                "cc", "-I\(place)/include", source("Sources/CDmae/example/embed.c"), "-o", program, "-L\(place)/lib",
                "-ldmae", "-Wl,-rpath,\(place)/lib",
            ])
        run(program, [Self.classifiers[0]] + (try decoded(Array(Self.pictures.prefix(1)))))
    }

    /// The header, the library and the program have one version.
    func testVersion() throws {
        let header = try String(contentsOfFile: Self.include + "/dmae.h", encoding: .utf8)
        let numbers = ["MAJOR", "MINOR", "PATCH"].map { part in
            header.components(separatedBy: "DMAE_VERSION_\(part) ")[1].prefix { $0.isNumber }
        }
        let version = numbers.joined(separator: ".")
        XCTAssertTrue(assertRuns(["--version"]).output.hasPrefix(version + " "))
        let pictures = try decoded(Array(Self.pictures.prefix(1)))
        XCTAssertTrue(
            result(of: ["features", Self.classifiers[0], "OUTPUT"] + pictures).output.hasPrefix(version + "\n"))
    }
}
