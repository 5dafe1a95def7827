import Foundation
import Tensors
import TestSupport
import Weights
import XCTest

/// Invalid and malicious PyTorch archives: each is refused with a specific message, and none crashes the process, fills
/// memory or runs code.
final class HostileArchiveTests: XCTestCase {
    private let folder = TemporaryFolder()

    private static let good = Pickled.dictionary(Pickled.tensor())

    private func refusal(_ bytes: [UInt8]) -> String {
        let path = folder.write(bytes, "hostile.pth")
        guard let found = failure({ _ = try WeightFiles.open(path) }) else { return "was accepted" }
        XCTAssertEqual(found.code, .badData)
        XCTAssertFalse(found.message.contains("\n"), found.message)
        XCTAssertTrue(found.message.hasPrefix("\"\(path)\" "), found.message)
        var message = found.message.dropFirst(path.utf8.count + 3)
        for part in ["is not a valid PyTorch archive: "] where message.hasPrefix(part) {
            message = message.dropFirst(part.count)
        }
        for part in [
            "; download or write the file again", ", which was not run or loaded; save the model's state_dict()",
        ]
        where message.hasSuffix(part) {
            message = message.dropLast(part.count)
        }
        return message.replacingOccurrences(of: path, with: "PATH")
    }

    /// At least `distinct` different messages occur.
    private func check(distinct: Int, _ cases: [(bytes: [UInt8], what: String)], line: UInt = #line) {
        for (index, (bytes, what)) in cases.enumerated() {
            XCTAssertEqual(refusal(bytes), what, "case \(index)", line: line)
        }
        XCTAssertGreaterThanOrEqual(Set(cases.map(\.what)).count, distinct, line: line)
    }

    /// The built archive is valid if nothing is made wrong.
    func testTheGoodOne() throws {
        for builder in [
            ArchiveBuilder(Self.good), ArchiveBuilder(Self.good).with { $0.comment = Array("a comment".utf8) },
            // The 32-bit fields refer to the 64-bit ones.
            ArchiveBuilder(Self.good).with("x/data/0") { member in
                member.size = .max
                member.packed = .max
                member.extra = [1, 0, 16, 0] + [16, 0, 0, 0, 0, 0, 0, 0] + [16, 0, 0, 0, 0, 0, 0, 0]
            },
        ] {
            let file = try WeightFiles.open(folder.write(builder.bytes(), "good.pth"))
            XCTAssertEqual(try file.withBytes("a") { Array($0) }, [UInt8](0..<16))
        }
    }

    func testZIPFaults() {
        let good = ArchiveBuilder(Self.good)
        let bytes = good.bytes()
        func changed(_ place: Int, _ value: UInt8) -> [UInt8] {
            var copy = bytes
            copy[place < 0 ? copy.count + place : place] = value
            return copy
        }
        func extra(_ bytes: [UInt8]) -> (inout ArchiveBuilder.Member) -> Void {
            {
                $0.size = .max
                $0.extra = bytes
            }
        }
        // The ZIP64 end records with some `fields` changed: (position in the record, bytes).
        func long(_ change: (inout [UInt8]) -> Void) -> [UInt8] {
            let start = bytes.count - 22
            var record = ArchiveBuilder.joined(
                ArchiveBuilder.word32(0x0606_4B50), ArchiveBuilder.word64(44), [UInt8](repeating: 0, count: 12))
            let directory = Array(bytes[(start + 12)..<(start + 16)])
            let place = Array(bytes[(start + 16)..<(start + 20)])
            for field in [[4, 0, 0, 0], [4, 0, 0, 0], directory, place] { record += field + [0, 0, 0, 0] }
            record += ArchiveBuilder.joined(
                ArchiveBuilder.word32(0x0706_4B50), ArchiveBuilder.word32(0), ArchiveBuilder.word64(UInt64(start)),
                ArchiveBuilder.word32(1))
            change(&record)
            return ArchiveBuilder.joined(Array(bytes[..<start]), record, Array(bytes[start...]))
        }
        XCTAssertEqual(refusal(long { _ in }), "was accepted")
        check(
            distinct: 30,
            [
                (Array("PK\u{3}\u{4}".utf8), "the zip archive has no list of members at its end: it was cut off"),
                (bytes.dropLast(), "the zip archive has no list of members at its end: it was cut off"),
                (changed(-2, 1), "the zip archive has no list of members at its end: it was cut off"),
                (good.with { $0.membersSaid = 3 }.bytes(), "the zip archive lists 3 members and something after them"),
                (
                    good.with { $0.membersSaid = 5 }.bytes(),
                    "the zip archive lists 5 members in 222 bytes, too few for so many"
                ),
                (
                    good.with { $0.membersSaid = 65535 }.bytes(),
                    "the zip archive lists 65535 members in 222 bytes, too few for so many"
                ),
                (
                    good.with { $0.directoryOffset = 1 }.bytes(),
                    "the zip archive gives a wrong position of its list of members"
                ),
                (
                    good.with { $0.disk = 1 }.bytes(),
                    "the zip archive is a part of one that is split over several files"
                ),
                (long { $0[8] = 1 }, "the zip archive has a ZIP64 end record of a wrong length"),
                (long { $0[16] = 1 }, "the zip archive is a part of one that is split over several files"),
                (
                    long { $0.replaceSubrange(64..<72, with: [UInt8](repeating: 0xFF, count: 8)) },
                    "the zip archive gives a wrong position of its ZIP64 end record"
                ),
                (
                    long { $0.replaceSubrange(24..<40, with: [UInt8](repeating: 0x7F, count: 16)) },
                    "the zip archive lists 9187201950435737471 members in 222 bytes, too few for so many"
                ),
                (
                    good.with("x/data/0") { $0.method = 8 }.bytes(),
                    "its member \"x/data/0\" is compressed, which torch.save does not do; write it again with: python3 "
                        + "-c \"import sys, torch; torch.save(torch.load(sys.argv[1], map_location='cpu', "
                        + "weights_only=True), sys.argv[2])\" PATH new.pth"
                ),
                (good.with("x/data/0") { $0.flags = 1 }.bytes(), "the zip archive holds member \"x/data/0\" encrypted"),
                (
                    good.with("x/data/0") { $0.size = 15 }.bytes(),
                    "the zip archive gives two sizes, 16 and 15 bytes, for the stored member \"x/data/0\""
                ),
                (
                    good.with("x/data/0") {
                        $0.size = .max - 1
                        $0.packed = .max - 1
                    }.bytes(), "the zip archive gives member \"x/data/0\" an impossible position"
                ),
                (
                    good.with("x/data/0", extra([])).bytes(),
                    "the zip archive lacks the true size of member \"x/data/0\""
                ),
                (
                    good.with("x/version", extra([1, 0, 4, 0, 1, 2, 3, 4])).bytes(),
                    "the zip archive lacks the true size of member \"x/version\""
                ),
                (
                    good.with("x/data/0") { $0.localName = "x/data/1" }.bytes(),
                    "the zip archive gives member \"x/data/0\" another name in its own header"
                ),
                (
                    good.with("x/data/0") { $0.localMethod = 8 }.bytes(),
                    "the zip archive has contradictory descriptions of member \"x/data/0\""
                ),
                (
                    good.with("x/data/0") { $0.signature = 0x0403_4B51 }.bytes(),
                    "the zip archive has no header where member \"x/data/0\" should begin"
                ),
                (
                    good.with("x/data/0") { $0.start = 3 }.bytes(),
                    "the zip archive has no header where member \"x/data/0\" should begin"
                ),
                (
                    good.with("x/data/0") { $0.start = 0x7FFF_FFFF }.bytes(),
                    "the zip archive gives member \"x/data/0\" an impossible position"
                ),
                (
                    good.with { $0.members.append(.init(name: "x/data/0", content: [])) }.bytes(),
                    "the zip archive holds two members named \"x/data/0\""
                ),
                (
                    good.with { $0.members.append(.init(name: "x/odd\u{1B}[31m", content: [], flags: 1)) }.bytes(),
                    "the zip archive holds member \"x/odd\\u{1B}[31m\" encrypted"
                ),
                (
                    // One content under two names, as in zip bombs.
                    good.with { builder in
                        builder.members.append(
                            .init(name: "x/data/1", content: Array(ArchiveBuilder.word32(0)), start: 0))
                        builder.members[0].name = "x/data/1"
                        builder.members[4].name = "x/data.pkl"
                    }.bytes(), "the zip archive gives member \"x/data.pkl\" another name in its own header"
                ),
                (
                    good.with { builder in
                        // A member within another.
                        let inner = ArchiveBuilder(Self.good, storages: []).bytes()
                        builder.members.insert(.init(name: "x/data/9", content: inner), at: 0)
                        builder.members.append(.init(name: "x/byteorder/", content: []))
                        builder.members[2].start = UInt32(30 + 8 + 30 + 10 + Self.good.count)
                    }.bytes(), "the zip archive lets member \"x/byteorder\" overlap \"x/data/9\""
                ),
                (
                    good.with { $0.members[0].name = "data.pkl" }.bytes(),
                    "it is a zip archive without the data.pkl that torch.save writes"
                ),
                (
                    good.with { $0.members = [] }.bytes(),
                    "it is a zip archive without the data.pkl that torch.save writes"
                ),
                (
                    good.with { $0.members.append(.init(name: "y/data.pkl", content: [])) }.bytes(),
                    "it holds 2 objects, such as \"y/data.pkl\""
                ),
                (good.with { $0.members.removeLast() }.bytes(), "it does not say the version of its layout"),
                (
                    good.with("x/version") { $0.content = Array("11\n".utf8) }.bytes(),
                    "its layout has version 11, but only 1 to 10 are supported"
                ),
                (
                    good.with("x/byteorder") { $0.content = Array("middle".utf8) }.bytes(),
                    "its byteorder is \"middle\", not little or big"
                ),
                (
                    good.with("x/data.pkl") { $0.checksum = 5 }.bytes(),
                    "its data.pkl is damaged: its checksum differs from the one in the archive"
                ),
                (
                    good.with { $0.members.append(.init(name: String(repeating: "n", count: 5000), content: [])) }
                        .bytes(),
                    "the zip archive holds a member with a name of 5000 bytes, more than the allowed 4096"
                ),
                (
                    ArchiveBuilder([UInt8](repeating: 0x30, count: (16 << 20) + 1)).bytes(),
                    "its data.pkl has 16777217 bytes, more than the allowed 16777216"
                ),
            ])
    }

    func testPickleFaults() {
        func pickle(_ parts: [UInt8]...) -> [UInt8] { ArchiveBuilder(Pickled.whole(Array(parts.joined()))).bytes() }
        func raw(_ bytes: [UInt8]) -> [UInt8] { ArchiveBuilder(bytes).bytes() }
        func opcodes(_ text: String) -> [UInt8] { Pickled.opcodes(text) }
        check(
            distinct: 60,
            [
                (raw([]), "its data.pkl does not begin as a pickle of protocol 2 or later"),
                (raw(Array("(dp0\n.".utf8)), "its data.pkl does not begin as a pickle of protocol 2 or later"),
                (raw([0x80, 6, 0x4E, 0x2E]), "its data.pkl is a pickle of protocol 6, but only 2 to 5 are supported"),
                (raw([0x80, 2]), "its data.pkl is cut off: it ends in the middle of a value at byte 2"),
                (raw(Self.good.dropLast()), "its data.pkl is cut off: it ends in the middle of a value at byte 109"),
                (raw(Self.good + [0x2E]), "its data.pkl continues after its end at byte 109"),
                (pickle(opcodes("NN")), "its data.pkl ends with 2 values instead of one at byte 4"),
                (pickle(opcodes("(N")), "its data.pkl ends with an open mark at byte 4"),
                (pickle(opcodes("0")), "its data.pkl takes a value that is not there at byte 2"),
                (pickle(opcodes("N(0")), "its data.pkl takes a value that is not there at byte 4"),
                (pickle(opcodes("Nt")), "its data.pkl closes a mark that is not open at byte 3"),
                (pickle(opcodes("}NNNu")), "its data.pkl closes a mark that is not open at byte 6"),
                (pickle(opcodes("}(Nu")), "its data.pkl fills a dictionary with a key that has no value at byte 5"),
                (pickle(opcodes("NNa")), "its data.pkl appends to something that is not a list at byte 4"),
                (pickle(opcodes("N(NNu")), "its data.pkl sets items of something that is not a dictionary at byte 6"),
                (pickle(opcodes("N(N"), [0x90]), "its data.pkl adds to something that is not a set at byte 5"),
                (pickle(opcodes("h\u{5}")), "its data.pkl reads memo entry 5, which is empty, at byte 2"),
                (
                    pickle(opcodes("Nr"), ArchiveBuilder.word32(.max)),
                    "its data.pkl stores a value as memo entry 4294967295, far beyond the others at byte 3"
                ),
                (
                    pickle(opcodes("X"), ArchiveBuilder.word32(.max)),
                    "its data.pkl holds a value of 4294967295 bytes, of which 1 follow, at byte 2"
                ),
                (
                    pickle([0x8D], ArchiveBuilder.word64(.max)),
                    "its data.pkl holds a value of 18446744073709551615 bytes, of which 1 follow, at byte 2"
                ),
                (
                    pickle([0x8E], ArchiveBuilder.word64(1 << 40), [1]),
                    "its data.pkl holds a value of 1099511627776 bytes, of which 2 follow, at byte 2"
                ),
                (
                    pickle([0x8B], ArchiveBuilder.word32(1 << 31)),
                    "its data.pkl holds a value of 2147483648 bytes, of which 1 follow, at byte 2"
                ),
                (
                    pickle([0x95], ArchiveBuilder.word64(1 << 62)),
                    "its data.pkl has a frame that ends after it at byte 2"
                ),
                (
                    pickle(opcodes("X"), ArchiveBuilder.word32(2), [0xC3, 0x28]),
                    "its data.pkl holds text that is not UTF-8 at byte 2"
                ),
                (
                    pickle(opcodes("cos\n\u{7F}")),
                    "its data.pkl holds a name of more than 1000 bytes or without an end at byte 2"
                ),
                (
                    pickle(opcodes("c"), [UInt8](repeating: 0x61, count: 2000), opcodes("\nx\n")),
                    "its data.pkl holds a name of more than 1000 bytes or without an end at byte 2"
                ),
                (pickle(opcodes("NN"), [0x93]), "its data.pkl names a class by something that is not text at byte 4"),
                (pickle([0xFF]), "its data.pkl holds the byte 255, which is not an opcode, at byte 2"),
                (pickle([0x80, 2]), "its data.pkl begins a second time at byte 2"),
                (
                    pickle(opcodes("I5\n")),
                    "its data.pkl uses an opcode of protocol 0 (I), which torch.save does not write, at byte 2"
                ),
                (
                    pickle(opcodes("(ios\nsystem\n")),
                    "its data.pkl uses an opcode of protocol 0 or 1 that makes objects (INST or OBJ), which torch.save "
                        + "does not write, at byte 3"
                ),
                (
                    pickle([0x82, 1]),
                    "its data.pkl uses Python's extension registry (opcode EXT), which does not exist here, at byte 2"
                ),
                (
                    pickle([0x97]),
                    "its data.pkl refers to buffers outside of it (opcode NEXT_BUFFER), which torch.save does not "
                        + "write, at byte 2"
                ),
                (pickle(opcodes("NNR")), "its data.pkl makes something from arguments that are not a tuple at byte 4"),
                (pickle(opcodes("K\u{5})R")), "its data.pkl calls 5, which is not a function, at byte 5"),
                (
                    pickle(Pickled.text("os.system"), opcodes(")"), [0x81]),
                    "its data.pkl makes an object of \"os.system\", which is not a class, at byte 17"
                ),
                (
                    pickle(opcodes("]N"), opcodes("b")),
                    "its data.pkl sets the state of something that has none at byte 4"
                ),
                (
                    pickle(Pickled.call("collections", "OrderedDict", [opcodes("]Na")])),
                    "its data.pkl makes a dictionary of something that is not a list of pairs at byte 32"
                ),
                (
                    pickle(opcodes("NQ")),
                    "its data.pkl refers to something outside of it that is not a storage at byte 3"
                ),
                (
                    pickle(
                        Pickled.tuple([Pickled.text("module"), opcodes("N"), opcodes("N"), opcodes("N"), opcodes("N")]),
                        opcodes("Q")), "its data.pkl refers to something outside of it that is not a storage at byte 19"
                ),
                (
                    pickle(Pickled.storage(count: -1)),
                    "its data.pkl describes a storage without its key or size at byte 60"
                ),
                (pickle(Pickled.storage()), "holds no tensors: its content is a storage without a shape"),
                (
                    pickle(Pickled.tensor(opcodes("N"))),
                    "its data.pkl makes a tensor of something that is not a storage at byte 50"
                ),
                (
                    pickle(Pickled.call("torch._utils", "_rebuild_tensor_v2", [])),
                    "its data.pkl makes a tensor from too few arguments at byte 37"
                ),
                (
                    pickle(Pickled.call("torch._utils", "_rebuild_parameter", [])),
                    "its data.pkl makes a parameter of nothing at byte 37"
                ),
                (
                    pickle(Pickled.tensor(offset: -1)),
                    "its data.pkl makes a tensor with an offset of -1, which is not a non-negative integer, at byte 108"
                ),
                (
                    pickle(Pickled.tensor(shape: [-1])),
                    "its data.pkl makes a tensor with a shape that holds -1, which is not a non-negative integer, at "
                        + "byte 108"
                ),
                (
                    pickle(Pickled.tensor(strides: [-1])),
                    "its data.pkl makes a tensor with strides that holds -1, which is not a non-negative integer, at "
                        + "byte 108"
                ),
                (
                    pickle(Pickled.tensor(shape: [2, 2])),
                    "its data.pkl makes a tensor with 2 dimensions and 1 strides at byte 102"
                ),
                (
                    pickle(
                        Pickled.tensor(shape: [Int](repeating: 1, count: 65), strides: [Int](repeating: 1, count: 65))),
                    "its data.pkl makes a tensor with a shape of 65 numbers, more than the allowed 64, at byte 356"
                ),
                (
                    pickle(Pickled.tensor(Pickled.storage("UntypedStorage", count: 16))),
                    "its data.pkl makes a tensor of a storage without a type at byte 102"
                ),
                (
                    pickle(Pickled.tensor(function: "_rebuild_tensor_v3", more: [Pickled.global("torch", "float64")])),
                    "its data.pkl makes a tensor of a type that its storage is not of at byte 115"
                ),
                // Inconsistent shapes, strides and storages.
                (
                    pickle(Pickled.tensor(shape: [5])),
                    "tensor \"tensor\" reaches element 4 of storage \"0\", which has 4 of its type"
                ),
                (
                    pickle(Pickled.tensor(offset: 2)),
                    "tensor \"tensor\" reaches element 5 of storage \"0\", which has 4 of its type"
                ),
                (
                    pickle(Pickled.tensor(strides: [2])),
                    "tensor \"tensor\" reaches element 6 of storage \"0\", which has 4 of its type"
                ),
                (
                    pickle(Pickled.tensor(offset: 7, shape: [0])),
                    "tensor \"tensor\" reaches element 7 of storage \"0\", which has 4 of its type"
                ),
                (
                    pickle(Pickled.tensor(shape: [1 << 40], strides: [0])),
                    "tensor \"tensor\" makes 1099511627776 elements of the 4 in its storage"
                ),
                (
                    pickle(Pickled.tensor(shape: [1 << 32, 1 << 32], strides: [0, 0])),
                    "tensor \"tensor\" has a shape of more than 2^63 bytes"
                ),
                // An empty tensor of a 2-byte type whose shape overflows for a 4-byte type.
                (
                    pickle(
                        Pickled.tensor(Pickled.storage("HalfStorage", count: 8), shape: [1 << 61, 0], strides: [1, 1])),
                    "tensor \"tensor\" has a shape of more than 2^63 bytes"
                ),
                (
                    pickle(Pickled.tensor(shape: [0, 1 << 61], strides: [1, 1])),
                    "tensor \"tensor\" has a shape of more than 2^63 bytes"
                ),
                (
                    pickle(Pickled.tensor(shape: [3], strides: [1 << 62])),
                    "tensor \"tensor\" has strides that reach beyond 2^63"
                ),
                (
                    pickle(Pickled.tensor(offset: Int.max, shape: [2])),
                    "tensor \"tensor\" has strides that reach beyond 2^63"
                ),
                (
                    pickle(Pickled.tensor(Pickled.storage(count: 5))),
                    "storage \"0\" of tensor \"tensor\" should hold 5 elements and holds 4"
                ),
                (
                    pickle(Pickled.tensor(Pickled.storage("DoubleStorage", count: 4))),
                    "storage \"0\" of tensor \"tensor\" should hold 4 elements and holds 2"
                ),
                (
                    pickle(Pickled.tensor(Pickled.storage(count: 1 << 60))),
                    "storage \"0\" of tensor \"tensor\" should hold 1152921504606846976 elements and holds 4"
                ),
                (pickle(Pickled.tensor(Pickled.storage(key: "7"))), "storage \"7\" of tensor \"tensor\" is missing"),
                (
                    pickle(Pickled.tensor(Pickled.storage(key: "../version"))),
                    "storage \"../version\" of tensor \"tensor\" is missing"
                ),
                (
                    pickle(
                        opcodes("}"), Pickled.text("a.b"), Pickled.tensor(), opcodes("s"), Pickled.text("a"),
                        opcodes("}"),
                        Pickled.text("b"),
                        Pickled.tensor(), opcodes("ss")), "it holds two tensors named \"a.b\""
                ),
                (
                    pickle(
                        opcodes("}"), Pickled.text(String(repeating: "n", count: 500)), Pickled.tensor(), opcodes("s")),
                    "its data.pkl gives a value a name of more than 500 bytes"
                ),
                (pickle(opcodes("]q\0h\0a")), "its data.pkl nests dictionaries and lists more than 64 deep"),
                (pickle(opcodes("]")), "holds no tensors: its content is a list of 0"),
            ])
    }

    /// Pickles that try to run code. Alone they hold no tensors and are refused; beside tensors they are shown as
    /// names.
    func testPicklesThatTryToRunCode() throws {
        // A file that executed code would leave in the working folder.
        let canary = "dmae-code-was-run"
        XCTAssertFalse(FileManager.default.fileExists(atPath: canary))
        let touch = Pickled.text("touch '\(canary)'")
        let python = Pickled.text("open('\(canary)', 'w')")
        func join(_ parts: [UInt8]...) -> [UInt8] { Array(parts.joined()) }
        let run = Pickled.call("os", "system", [touch])
        let inner = Pickled.whole(run)
        let bytes = join(Pickled.opcodes("B"), ArchiveBuilder.word32(UInt32(inner.count)), inner)
        let list = join(Pickled.opcodes("]"), touch, Pickled.opcodes("a"))
        let gadgets: [(content: [UInt8], what: String)] = [
            (run, "holds no tensors: its content is os.system(\"touch 'dmae-code-was-run'\")"),
            (
                Pickled.call("posix", "system", [touch]),
                "holds no tensors: its content is posix.system(\"touch 'dmae-code-was-run'\")"
            ),
            (
                Pickled.call("nt", "system", [touch]),
                "holds no tensors: its content is nt.system(\"touch 'dmae-code-was-run'\")"
            ),
            (
                Pickled.call("builtins", "eval", [python]),
                "holds no tensors: its content is builtins.eval(\"open('dmae-code-was-run', 'w')\")"
            ),
            (
                Pickled.call("__builtin__", "eval", [python]),
                "holds no tensors: its content is __builtin__.eval(\"open('dmae-code-was-run', 'w')\")"
            ),
            (
                Pickled.call("builtins", "exec", [python]),
                "holds no tensors: its content is builtins.exec(\"open('dmae-code-was-run', 'w')\")"
            ),
            (
                Pickled.call("subprocess", "Popen", [touch, Pickled.opcodes("N")]),
                "holds no tensors: its content is subprocess.Popen(\"touch 'dmae-code-was-run'\", None)"
            ),
            (
                Pickled.call("subprocess", "check_output", [list]),
                "holds no tensors: its content is subprocess.check_output(…)"
            ),
            (
                Pickled.call("runpy", "run_path", [Pickled.text(canary)]),
                "holds no tensors: its content is runpy.run_path(\"dmae-code-was-run\")"
            ),
            (
                Pickled.call("importlib", "import_module", [Pickled.text("antigravity")]),
                "holds no tensors: its content is importlib.import_module(\"antigravity\")"
            ),
            (
                Pickled.call("webbrowser", "open", [Pickled.text("https://example.org")]),
                "holds no tensors: its content is webbrowser.open(\"https://example.org\")"
            ),
            (
                Pickled.call("torch", "load", [Pickled.text(canary)]),
                "holds no tensors: its content is torch.load(\"dmae-code-was-run\")"
            ),
            (
                Pickled.call("torch.storage", "_load_from_bytes", [bytes]),
                "holds no tensors: its content is torch.storage._load_from_bytes(bytes)"
            ),
            (
                Pickled.call("torch.hub", "load", [Pickled.text("a/b")]),
                "holds no tensors: its content is torch.hub.load(\"a/b\")"
            ),
            (
                Pickled.call("torch.utils._config_module", "load_config", [bytes]),
                "holds no tensors: its content is torch.utils._config_module.load_config(bytes)"
            ),
            (
                Pickled.call("torch._dynamo.guards.GuardBuilder", "get", [python]),
                "holds no tensors: its content is torch._dynamo.guards.GuardBuilder.get(\"open('dmae-code-was-run', "
                    + "'w')\")"
            ),
            (Pickled.call("pickle", "loads", [bytes]), "holds no tensors: its content is pickle.loads(bytes)"),
            (
                Pickled.call("_pickle", "loads", [bytes, bytes, bytes, bytes, bytes]),
                "holds no tensors: its content is _pickle.loads(bytes, bytes, bytes, bytes, …)"
            ),
            (
                Pickled.call("numpy.testing._private.utils", "runstring", [python, Pickled.opcodes("}")]),
                "holds no tensors: its content is numpy.testing._private.utils.runstring(\"open('dmae-code-was-run', "
                    + "'w')\", …)"
            ),
            // A call of the result of a call.
            (
                join(
                    Pickled.call(
                        "builtins", "getattr", [Pickled.global("builtins", "__import__"), Pickled.text("__call__")]),
                    Pickled.tuple([Pickled.text("os")]), Pickled.opcodes("R")),
                "holds no tensors: its content is a call of the result of builtins.getattr"
            ),
            (
                join(
                    Pickled.call("functools", "partial", [Pickled.global("os", "system"), touch]), Pickled.opcodes(")R")
                ),
                "holds no tensors: its content is a call of the result of functools.partial"
            ),
            // STACK_GLOBAL with a dotted name.
            (
                join(
                    Pickled.text("builtins"), Pickled.text("eval.__call__"), [0x93], Pickled.tuple([python]),
                    Pickled.opcodes("R")
                ), "holds no tensors: its content is builtins.eval.__call__(\"open('dmae-code-was-run', 'w')\")"
            ),
            // NEWOBJ and NEWOBJ_EX: the class's __new__.
            (
                join(Pickled.global("multiprocessing", "Process"), Pickled.tuple([touch]), [0x81]),
                "holds no tensors: its content is multiprocessing.Process(\"touch 'dmae-code-was-run'\")"
            ),
            (
                join(Pickled.global("socket", "socket"), Pickled.tuple([]), Pickled.opcodes("}"), [0x92]),
                "holds no tensors: its content is socket.socket()"
            ),
            // BUILD: __setstate__, and attributes that replace methods.
            (
                join(
                    Pickled.global("argparse", "Namespace"), Pickled.opcodes(")"), [0x81], Pickled.opcodes("}"),
                    Pickled.text("__setstate__"),
                    Pickled.global("os", "system"), Pickled.opcodes("sb"), touch, Pickled.opcodes("b")),
                "holds no tensors: its content is argparse.Namespace"
            ),
            (
                join(
                    Pickled.global("torch.nn.modules.module", "Module"), Pickled.opcodes(")"), [0x81],
                    Pickled.opcodes("}"),
                    Pickled.text("__reduce__"), run, Pickled.opcodes("sb")),
                "holds no tensors: its content is torch.nn.modules.module.Module"
            ),
            // Calls in place of a tensor's arguments.
            (
                Pickled.call(
                    "torch._tensor", "_rebuild_from_type_v2",
                    [
                        Pickled.global("os", "system"), Pickled.opcodes("N"), Pickled.tuple([touch]),
                        Pickled.opcodes("}"),
                    ]),
                "holds no tensors: its content is torch._tensor._rebuild_from_type_v2(os.system, None, …, …)"
            ),
            // Put into the memo, popped and read from the memo.
            (
                join(
                    Pickled.call("os", "popen", [touch]), Pickled.opcodes("q\u{0}0"), Pickled.text("x"),
                    Pickled.opcodes("0h\0")),
                "holds no tensors: its content is os.popen(\"touch 'dmae-code-was-run'\")"
            ),
        ]
        check(distinct: 28, gadgets.map { (ArchiveBuilder(Pickled.whole($0.content)).bytes(), $0.what) })
        for (content, _) in gadgets {
            let path = folder.write(ArchiveBuilder(Pickled.dictionary(content, Pickled.tensor())).bytes(), "beside.pth")
            let file = try WeightFiles.open(path)
            XCTAssertEqual(file.names, ["b"])
            XCTAssertEqual(file.values.first?.name, "a")
            guard case .other? = file.values.first?.value else {
                XCTFail("\(file.values)")
                continue
            }
        }
        // A default factory and backward hooks are also only names.
        let hooked = Pickled.call(
            "torch._utils", "_rebuild_parameter",
            [Pickled.tensor(more: [run]), [0x88], Pickled.call("builtins", "eval", [python])])
        for content in [
            join(
                Pickled.call("collections", "defaultdict", [Pickled.global("os", "system")]), Pickled.text("t"),
                Pickled.tensor(),
                Pickled.opcodes("s")),
            join(Pickled.opcodes("}"), Pickled.text("t"), hooked, Pickled.opcodes("s")),
        ] {
            XCTAssertEqual(
                try WeightFiles.open(folder.write(ArchiveBuilder(Pickled.whole(content)).bytes(), "hooked.pth")).names,
                ["t"])
        }
        XCTAssertFalse(FileManager.default.fileExists(atPath: canary), "code was run")
        XCTAssertGreaterThanOrEqual(gadgets.count, 28)
    }

    /// Small files that describe large objects: the built program refuses them within 64 MB of memory, a limit that the
    /// system enforces.
    func testBombs() {
        func join(_ parts: [UInt8]...) -> [UInt8] { Array(parts.joined()) }
        func pickle(_ content: [UInt8], storages: [(String, [UInt8])] = [("0", [UInt8](0..<16))]) -> [UInt8] {
            ArchiveBuilder(Pickled.whole(content), storages: storages).bytes()
        }
        func repeated(_ content: [UInt8], _ count: Int) -> [UInt8] {
            Array(repeatElement(content, count: count).joined())
        }
        func opcodes(_ text: String) -> [UInt8] { Pickled.opcodes(text) }
        let most = (16 << 20) - 1000
        // Each list or dictionary holds the previous one several times.
        var lists = opcodes("]q\u{0}0")
        var dictionaries = join(Pickled.tensor(), opcodes("q\u{0}0"))
        for level in UInt8(0)..<30 {
            lists += join(opcodes("]("), repeated([0x68, level], 10), opcodes("eq"), [level + 1], opcodes("0"))
            dictionaries += opcodes("}(")
            for key in "abc" { dictionaries += join(Pickled.text(String(key)), [0x68, level]) }
            dictionaries += join(opcodes("uq"), [level + 1], opcodes("0"))
        }
        lists += [0x68, 30]
        dictionaries += [0x68, 30]
        var manyNames = join(Pickled.tensor(), opcodes("q\u{0}0}("))
        for index in 0..<70_000 { manyNames += join(Pickled.integer(index), opcodes("h\0")) }
        manyNames += opcodes("u")
        let longNames = join(
            Pickled.tensor(), opcodes("q\u{0}0"), Pickled.text(String(repeating: "n", count: 490)),
            opcodes("q\u{1}0]("),
            repeated(opcodes("}h\u{1}h\0s"), 30_000), opcodes("e"))
        var farMemo = opcodes("N")
        for step in UInt32(0)..<12 { farMemo += join(opcodes("r"), ArchiveBuilder.word32(step << 20 | 0xFFFFF)) }
        let large = Pickled.tensor(Pickled.storage("ByteStorage", count: 8 << 20), shape: [8 << 20])
        let stretched = Pickled.tensor(Pickled.storage("ByteStorage", count: 16), shape: [1 << 20], strides: [0])
        let oneText = join(opcodes("]("), repeated(opcodes("h\0"), 40), opcodes("ea"))
        let cases: [(bytes: [UInt8], what: String)] = [
            (
                pickle(repeated(opcodes("}"), most)),
                "its data.pkl describes values that need more than 24 MB of memory at byte 613802"
            ),
            (
                pickle(repeated(opcodes("("), most)),
                "its data.pkl describes values that need more than 24 MB of memory at byte 1572866"
            ),
            (
                pickle(join(opcodes("N"), repeated(opcodes("2"), most))),
                "its data.pkl fills its stack with more than 1048576 values at byte 1048578"
            ),
            (
                pickle(join(opcodes("Nq\0"), repeated(opcodes("h\u{0}0"), most / 3))),
                "its data.pkl has more than 8000000 opcodes"
            ),
            (
                pickle(repeated([0x4B, 1, 0x85], most / 3)),
                "its data.pkl describes values that need more than 24 MB of memory at byte 618835"
            ),
            (
                pickle(join(repeated(opcodes("]"), 120_000), repeated(opcodes("a"), 119_999))),
                "its data.pkl nests dictionaries and lists more than 64 deep"
            ),
            (
                pickle(join(opcodes("N"), repeated([0x85], 120_000))),
                "its data.pkl nests dictionaries and lists more than 64 deep"
            ),
            (pickle(farMemo), "its data.pkl describes values that need more than 24 MB of memory at byte 13"),
            (pickle(lists), "its data.pkl holds more than 1000000 values, or the same ones many times"),
            (pickle(dictionaries), "its data.pkl holds more than 65536 tensors, or the same ones many times"),
            (pickle(manyNames), "its data.pkl holds more than 65536 tensors, or the same ones many times"),
            (pickle(longNames), "its data.pkl gives its values names of more than 8 MB"),
            (
                pickle(join(opcodes("]q\0("), repeated(opcodes("h\0"), 1_000_000), opcodes("e"))),
                "its data.pkl nests dictionaries and lists more than 64 deep"
            ),
            (
                pickle(
                    join(opcodes("]("), repeated(large, 40), opcodes("e")),
                    storages: [("0", [UInt8](repeating: 0, count: 8 << 20))]),
                "its tensors would hold 335544320 bytes, far more than the file has"
            ),
            (
                pickle(join(opcodes("]("), stretched, opcodes("q\0"), repeated(opcodes("h\0"), 100), opcodes("e"))),
                "its tensors would hold 105906176 bytes, far more than the file has"
            ),
            (
                pickle(
                    join(
                        opcodes("}"),
                        repeated(join(Pickled.text(String(repeating: "k", count: 200)), opcodes("Ns")), 75_000))),
                "holds no tensors: its content is a dictionary of 75000"
            ),
            // One long text that many values refer to.
            (
                pickle(
                    join(
                        Pickled.text(String(repeating: "t", count: 9000)), opcodes("q\u{0}0]"),
                        repeated(oneText, 11_000))),
                "holds no tensors: its content is a list of 11000"
            ),
            (
                ArchiveBuilder(Self.good).with { builder in
                    for index in 0..<60_000 { builder.members.append(.init(name: "x/\(index)", content: [], start: 0)) }
                }.bytes(), "the zip archive gives member \"x/0\" another name in its own header"
            ),
        ]
        check(distinct: 13, cases)
        for (index, (bytes, _)) in cases.enumerated() {
            let path = folder.write(bytes, "bomb.pth")
            let start = Date()
            let result = Command.run(
                ["-c", "ulimit -d 65536; exec '\(Command.binary)' inspect '\(path)'"], executable: "/bin/sh")
            XCTAssertEqual(result.end, .exited(65), "bomb \(index): \(result.description)")
            XCTAssertLessThan(Date().timeIntervalSince(start), 10, "bomb \(index)")
        }
    }

    /// A list may hold one object many times, and its attributes are searched for the parts of a module each time.
    func testObjectsHeldVeryOften() throws {
        func list(attributes: Int, times: Int) -> [UInt8] {
            let weight = Pickled.join(Pickled.text("w"), Pickled.tensor(), Pickled.opcodes("s"))
            let object = Pickled.join(
                Pickled.global("a", "Module"), Pickled.opcodes(")"), [0x81], Pickled.opcodes("q\u{0}}("),
                [UInt8](repeating: UInt8(ascii: "N"), count: 2 * attributes), Pickled.text("_parameters"),
                Pickled.opcodes("}"),
                weight, Pickled.text("_buffers"), Pickled.opcodes("}"), Pickled.text("_modules"), Pickled.opcodes("}ub")
            )
            let again = Array(repeatElement(Pickled.opcodes("h\u{0}"), count: times - 1).joined())
            return ArchiveBuilder(
                Pickled.whole(Pickled.join(Pickled.opcodes("]("), object, again, Pickled.opcodes("e")))
            ).bytes()
        }
        let path = folder.write(list(attributes: 100, times: 3), "modules.pth")
        XCTAssertEqual(try WeightFiles.open(path).names, ["0.w", "1.w", "2.w"])
        // Four million attributes in all.
        XCTAssertEqual(
            refusal(list(attributes: 2000, times: 2000)),
            "its data.pkl holds more than 1000000 values, or the same ones many times")
    }

    /// The inputs that `make fuzz` starts from, including those that it found.
    func testFuzzersFiles() throws {
        for (kind, least) in [("archive", 3), ("pickle", 5), ("safetensors", 3)] {
            let names = try FileManager.default.contentsOfDirectory(atPath: Fixtures.path("fuzz/\(kind)"))
            XCTAssertGreaterThanOrEqual(names.count, least)
            for name in names {
                var bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: Fixtures.path("fuzz/\(kind)/\(name)"))))
                if kind == "pickle" {
                    bytes = ArchiveBuilder(bytes, storages: ["0", "1", "2"].map { ($0, [UInt8](0..<64)) }).bytes()
                }
                let path = folder.write(bytes, "fuzzed")
                let refused = failure {
                    let file = try WeightFiles.open(path)
                    for entry in file.entries where entry.type.isConvertible { _ = try file.floats(entry.name) }
                }
                if let refused { XCTAssertEqual(refused.code, .badData, "\(kind)/\(name): \(refused.message)") }
            }
        }
    }

    // MARK: Damage

    private func fixture(_ name: String) throws -> [UInt8] {
        [UInt8](try Data(contentsOf: URL(fileURLWithPath: Fixtures.path("archives/\(name)"))))
    }

    func testEveryTruncationIsRefused() throws {
        for name in ["list.pth", "views.pth"] {
            let bytes = try fixture(name)
            for length in 0..<bytes.count {
                let path = folder.write(bytes[..<length], "short.pth")
                XCTAssertEqual(
                    failure { _ = try WeightFiles.open(path) }?.code, .badData, "\(name) cut to \(length) bytes")
            }
        }
    }

    func testTenThousandBitFlips() throws {
        let seed = testSeed(2016)
        var random = CounterRandom(seed: seed, purpose: .test)
        var opened = 0
        for name in ["checkpoint-2.pth", "checkpoint-4.pth", "views.pth", "no-checksums.pth"] {
            let bytes = try fixture(name)
            for _ in 0..<2500 {
                var flipped = bytes
                for _ in 0...random.below(4) { flipped[random.below(bytes.count)] ^= 1 << UInt8(random.below(8)) }
                let path = folder.write(flipped, "flipped.pth")
                let refused = failure {
                    let file = try WeightFiles.open(path)
                    for entry in file.entries { XCTAssertEqual(try file.floats(entry.name).count, entry.count) }
                    opened += 1
                }
                if let refused { XCTAssertEqual(refused.code, .badData, refused.message) }
            }
        }
        print("bit flips with seed \(seed): \(opened) of 10000 archives still open")
        // Changes of data, padding and redundant fields may go unnoticed. The pickle is checksummed, and the directory
        // is checked.
        XCTAssertTrue((500..<9000).contains(opened), "\(opened)")
    }
}
