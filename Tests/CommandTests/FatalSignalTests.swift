import Foundation
import TestSupport
import XCTest

/// What the system does to a process in place of an error: a sentence, an exit code, nothing left over.
final class FatalSignalTests: XCTestCase {
    private let folder = TemporaryFolder()

    /// Writes weights of a plain ViT, all zeros, 200 MB long but without blocks on the disk.
    private func writeSparseWeights() throws -> String {
        let width = 1024
        var shapes: [(String, [Int])] = [
            ("cls_token", [1, 1, width]), ("pos_embed", [1, 5, width]),
            ("patch_embed.proj.weight", [width, 3, 16, 16]),
            ("patch_embed.proj.bias", [width]),
        ]
        for block in 0..<4 {
            for (name, shape) in [
                ("norm1.weight", [width]), ("norm1.bias", [width]), ("attn.qkv.weight", [3 * width, width]),
                ("attn.qkv.bias", [3 * width]), ("attn.proj.weight", [width, width]), ("attn.proj.bias", [width]),
                ("norm2.weight", [width]), ("norm2.bias", [width]), ("mlp.fc1.weight", [4 * width, width]),
                ("mlp.fc1.bias", [4 * width]), ("mlp.fc2.weight", [width, 4 * width]), ("mlp.fc2.bias", [width]),
            ] { shapes.append(("blocks.\(block).\(name)", shape)) }
        }
        shapes += [("norm.weight", [width]), ("norm.bias", [width])]
        var offset = 0
        let entries = shapes.map { name, shape in
            let end = offset + 4 * shape.reduce(1, *)
            defer { offset = end }
            return "\"\(name)\":{\"dtype\":\"F32\",\"shape\":\(shape),\"data_offsets\":[\(offset),\(end)]}"
        }
        var header = Array("{\(entries.joined(separator: ","))}".utf8)
        while header.count % 8 != 0 { header.append(0x20) }
        folder.write(withUnsafeBytes(of: UInt64(header.count).littleEndian, Array.init) + header, "weights.safetensors")
        let path = folder.file("weights.safetensors")
        XCTAssertEqual(truncate(path, 8 + header.count + offset), 0)
        return path
    }

    /// A mapped file that another program cuts.
    func testFileThatIsCut() throws {
        let weights = try writeSparseWeights(), output = folder.file("out")
        let command = Command(["convert", weights, output, "--to", "huggingface"])
        // From the first bytes of the output on the input is mapped, and most of it is still to be read.
        while command.isRunning {
            command.send(SIGSTOP)
            let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
            let isWriting = names.filter { $0.hasPrefix("out") }.contains { name in
                let path = folder.file(name)
                let files = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
                return !files.isEmpty
            }
            if isWriting { break }
            command.send(SIGCONT)
            usleep(200)
        }
        XCTAssertEqual(truncate(weights, 4096), 0)
        command.send(SIGCONT)
        let result = command.wait()
        XCTAssertEqual(result.end, .exited(74), result.description)
        XCTAssertEqual(
            result.errors.split(separator: "\n").last.map(String.init),
            "error: cannot read \"\(weights)\": it was shortened while it was read, or its disk failed; see that the file "
                + "is whole, and try again")
        XCTAssertEqual(try FileManager.default.contentsOfDirectory(atPath: folder.path), ["weights.safetensors"])
    }

    /// What Swift's runtime and the C library do where they cannot go on.
    func testTraps() throws {
        for signal in [SIGABRT, SIGILL, SIGTRAP, SIGSEGV, SIGFPE] {
            let run = folder.file("run-\(signal)")
            let command = Command(TinyRun.pretrain(run, epochs: 20_000, ["--checkpoint-every", "1"]))
            while command.isRunning, try TinyRun.checkpointsIfAny(run).count == 0 { usleep(1000) }
            command.send(signal)
            let result = command.wait()
            XCTAssertEqual(result.end, .exited(1), result.description)
            XCTAssertTrue(
                result.errors.contains("error: dmae was ended by a fault of its own, or for want of memory; files in"),
                result.errors)
            let names = try FileManager.default.contentsOfDirectory(atPath: run)
            XCTAssertFalse(names.contains { $0.contains(".part-") }, "\(names)")
        }
    }
}

extension TinyRun {
    fileprivate static func checkpointsIfAny(_ folder: String) throws -> [String] {
        FileManager.default.fileExists(atPath: folder) ? try checkpoints(folder) : []
    }
}
