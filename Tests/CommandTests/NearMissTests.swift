import Foundation
import TestSupport
import XCTest

/// What users of other tools type: the word here is named, and nothing is guessed and run.
final class NearMissTests: XCTestCase {
    private static let source = URL(fileURLWithPath: Fixtures.folder).deletingLastPathComponent()
        .appendingPathComponent("Sources/dmae/NearMisses.swift")
    private static let commands = Command.subcommands()
    private static let help = Dictionary(
        uniqueKeysWithValues: commands.map { ($0, Command.run([$0, "--help"]).output) })

    func testFlagsOfOtherTools() {
        let weights = ["--weights", "w"]
        for (arguments, given, meant) in [
            (["distill", "--batch-size", "32"], "--batch-size", "dmae distill calls it --batch"),
            (["distill", "--batch-size=32"], "--batch-size", "dmae distill calls it --batch"),
            (["pretrain", "--lr", "0.1"], "--lr", "dmae pretrain calls it --base-learning-rate"),
            (["finetune", "--base-lr", "0.1"], "--base-lr", "dmae finetune calls it --base-learning-rate"),
            (["finetune", "--blr", "0.1"], "--blr", "dmae finetune calls it --base-learning-rate"),
            (["probe", "--learning-rate", "1"], "--learning-rate", "dmae probe calls it --base-learning-rate"),
            (["distill", "--wd", "0"], "--wd", "dmae distill calls it --weight-decay"),
            (["distill", "--mask_ratio", "0.5"], "--mask_ratio", "dmae distill calls it --mask-ratio"),
            (["distill", "--maskRatio", "0.5"], "--maskRatio", "dmae distill calls it --mask-ratio"),
            (["finetune", "--drop_path", "0.1"], "--drop_path", "dmae finetune calls it --drop-path"),
            (["finetune", "--drop-path-rate", "0.1"], "--drop-path-rate", "dmae finetune calls it --drop-path"),
            (["distill", "--num-workers", "2"], "--num-workers", "dmae distill calls it --workers"),
            (["distill", "-j", "2"], "-j", "dmae distill calls it --workers"),
            (["distill", "--output-dir", "run"], "--output-dir", "dmae distill calls it --output"),
            (["distill", "--output_dir", "run"], "--output_dir", "dmae distill calls it --output"),
            (["distill", "--img-size", "64"], "--img-size", "dmae distill calls it --image-size"),
            (["distill", "--data-path", "x"], "--data-path", "dmae distill calls it --data"),
            (["finetune", "--data-path", "x"], "--data-path", "dmae finetune calls it --train"),
            (["distill", "--fp16"], "--fp16", "dmae distill calls it --precision bf16"),
            (["convert", "a", "b", "--to", "mae", "--fp16"], "--fp16", "dmae convert calls it --dtype f16"),
            (["distill", "--bf16"], "--bf16", "dmae distill calls it --precision bf16"),
            (["distill", "--norm_pix_loss"], "--norm_pix_loss", "dmae distill calls it --normalize-pixels"),
            (["distill", "--accum_iter", "4"], "--accum_iter", "dmae distill calls it --effective-batch"),
            (["embed"] + weights + ["--model", "x"], "--model", "dmae embed calls it --weights"),
            (["embed"] + weights + ["--overwrite"], "--overwrite", "dmae embed calls it --force"),
            (["reconstruct"] + weights + ["--data", "x"], "--data", "dmae reconstruct calls it --input"),
            (
                ["convert", "a", "--to", "mae", "-o", "b"], "-o",
                "dmae convert takes the output without a flag, as its second argument"
            ),
            (["distill", "--pretrained", "w"], "--pretrained", "dmae distill calls it --init-student"),
            (["distill", "--finetune", "w"], "--finetune", "dmae distill calls it --init-student"),
            (["finetune", "--finetune", "w"], "--finetune", "dmae finetune calls it --weights"),
            (["distill", "--aligned_blks_indices", "8"], "--aligned_blks_indices", "dmae distill calls it --align"),
            (["distill", "--dry"], "--dry", "dmae distill calls it --dry-run"),
            (["knn"] + weights + ["--top", "5"], "--top", "dmae knn calls it --k"),
            (["distill", "--device", "cpu"], "--device", "dmae computes on the processor: leave it out"),
        ] {
            let result = Command.run(arguments)
            assertRefused(result, 64, ["Unknown option '\(given)': \(meant)"])
            XCTAssertFalse(result.errors.contains("Did you mean"), result.errors)
        }
        // The parser would take them for short flags, and those with an h for a wish for help.
        for (arguments, words) in [
            (
                ["distill", "--teacher", "t", "--data", "d", "--output", "o", "-epochs", "3"],
                "'-epochs': dmae distill calls it --epochs"
            ),
            (["resume", "run", "-threads", "2"], "'-threads': dmae resume calls it --threads"),
            (["embed", "-weights", "w"], "'-weights': dmae embed calls it --weights"),
            (["inspect", "-json", "run"], "'-json': dmae inspect calls it --json"),
            (["predict", "--weights", "w", "-dash.png"], "'-dash.png'"),
            (["knn", "-hweights"], "'-hweights'; `dmae knn --help` lists those it has"),
        ] {
            let result = Command.run(arguments)
            assertRefused(result, 64, ["Unknown option \(words)"])
            XCTAssertEqual(result.output, "")
        }
        XCTAssert(Command.run(["knn", "-qh"]).output.contains("dmae knn"))
        let joined = Command.run(["embed", "--weights", "nothing", "--data", "nothing", "-o=features.npy"])
        assertRefused(joined, 74, ["cannot open --weights"])
        // A number that counts otherwise.
        for (arguments, words) in [
            (["pretrain", "--lr", "1e-3"], "per 256 images of --effective-batch, as MAE's --blr"),
            (
                ["pretrain", "--accum_iter", "4"],
                "counts the images of an optimiser step: a number of batches times --batch"
            ),
            (["distill", "--batch_size", "64"], "the images of one forward and backward pass; --effective-batch"),
            (["distill", "--save_freq", "20"], "counts optimiser steps, not epochs"),
        ] {
            assertRefused(arguments, 64, words)
        }
        for arguments in [["pretrain", "--blr", "1e-3"], ["embed"] + weights + ["--batch-size", "8"]] {
            let result = Command.run(arguments)
            XCTAssertFalse(result.errors.contains("256"), result.errors)
            XCTAssertFalse(result.errors.contains("optimiser step"), result.errors)
        }
        assertRefused(["knn"] + weights + ["--topk", "5"], 64, "Unknown option '--topk': dmae knn calls it --k")
        for word in ["--topk", "--top"] {
            assertRefused(["predict"] + weights + [word, "5", "x"], 64, "prints the five most probable classes")
        }
        assertRefused(
            ["finetune", "--nb_classes", "10"], 64, "Unknown option '--nb_classes': the classes are those of")
        assertRefused(
            ["resume", "run", "--lr", "1"], 64, "Unknown option '--lr': a run goes on with the values of its start")
        assertRefused(["distill", "-v"], 64, "Unknown option '-v': everything is said unless --quiet is given")
        for word in ["-v", "-V", "version"] { assertRefused([word], 64, "'\(word)'. Did you mean '--version'?") }
        // What is unknown comes before what is missing, or does not fit together.
        assertRefused(["distill", "--foo", "1"], 64, "Unknown option '--foo'")
        assertRefused(["distill", "--epoch-count", "1"], 64, "Unknown option '--epoch-count'")
        assertRefused(["finetune", "--train", "a", "--val", "b", "--bar"], 64, "Unknown option '--bar'")
        assertRefused(["distill", "--studnet", "x"], 64, "Unknown option '--studnet'. Did you mean '--student'?")
        assertRefused(["distill", "--align", "1:0", "-o", "x", "--epochs=-1"], 64, "Missing expected argument")
        // The parser's own guess stays where nothing is known, and what is right elsewhere is no near miss here.
        assertRefused(["doctor", "--thread", "1"], 64, "Unknown option '--thread'. Did you mean '--threads'?")
        assertRefused(
            ["embed"] + weights + ["--data", "x", "--output", "x.npy", "--lr", "1"], 64, "Unknown option '--lr'")
    }

    /// Values of other tools.
    func testValues() {
        for (arguments, given, meant) in [
            (["convert", "a", "b", "--to", "hf"], "'hf' is invalid for '--to <form>'", "huggingface"),
            (["convert", "a", "b", "--to", "transformers"], "'transformers'", "huggingface"),
            (["convert", "a", "b", "--to", "mae", "--dtype", "float16"], "'float16'", "f16"),
            (["distill", "--precision", "bfloat16"], "'bfloat16'", "bf16"),
        ] {
            assertRefused(arguments, 64, "The value \(given)", ": it is called '\(meant)' here. Please provide one of")
        }
        let other = Command.run(["convert", "a", "b", "--to", "jax"])
        assertRefused(other, 64, ["The value 'jax' is invalid for '--to <form>'. Please provide one of"])
    }

    /// Words that are parts of one path, and the second of two files.
    func testUnexpectedArguments() throws {
        let folder = TemporaryFolder(), weights = Fixtures.path("weights/mae/mae.safetensors")
        let data = folder.file("my own pictures")
        try FileManager.default.createDirectory(atPath: data, withIntermediateDirectories: true)
        let words = data.components(separatedBy: " ")
        let remedy = "\"\(data)\" is there, and a path with spaces needs quotes"
        assertRefused(["resume"] + words, 64, "nexpected argument", "'own'", remedy)
        assertRefused(
            ["distill", "--teacher", weights, "--output"] + words + ["--data", data], 64, "nexpected argument", remedy)
        // A flag of several paths takes all words.
        assertRefused(
            ["embed", "--weights", weights, "--output", folder.file("x.npy"), "--data"] + words, 64,
            "there is \"\(data)\", and a path with spaces needs quotes")
        // The path of an output is not there yet.
        assertRefused(
            ["pretrain", "--data", data, "--output", folder.file("new"), "run"], 64,
            "Unexpected argument 'run': a path with spaces needs quotes")
        assertRefused(
            ["inspect", weights, Fixtures.path("weights/mae/encoder.pth")], 64,
            "dmae inspect takes one file or folder; of two weight files, the second goes with --compare")
        let number = Command.run(["doctor", "1"])
        assertRefused(number, 64, ["Unexpected argument '1'"])
        XCTAssertFalse(number.errors.contains("quotes"), number.errors)
    }

    /// Names of models that other tools download.
    func testNamesOfTheHub() throws {
        let output = ["--data", TinyRun.data, "--output", "run"]
        for (flag, name) in [
            ("--teacher", "facebook/vit-mae-large"), ("--init-student", "timm/vit_base_patch16_224.mae"),
        ] {
            let command = flag == "--teacher" ? "distill" : "pretrain"
            assertRefused(
                [command, flag, name] + output, 64,
                "\(flag) \"\(name)\" is no file here. If it is a model of the Hugging Face hub: dmae downloads nothing; "
                    + "`hf download \(name) --local-dir \(name.split(separator: "/")[1])` fetches it, then name that folder"
            )
        }
        assertRefused(
            ["distill", "--teacher", "hf-hub:timm/vit"] + output, 64, "`hf download timm/vit --local-dir vit`")
        for path in ["gone.pth", "gone/gone.pth", "./gone/gone", "a/b/c", "/gone/gone"] {
            assertRefused(["distill", "--teacher", path] + output, 74, "cannot open --teacher \"\(path)\"")
        }
    }

    /// Models as timm, MAE's programs and transformers call them.
    func testModelsOfOtherTools() {
        for (name, meant) in [
            ("vit_small_patch16_224", "it is --student vit-small here\n"),
            ("vit_small_patch14_dinov2.lvd142m", "it is --student vit-small here, with --patch-size 14\n"),
            ("vit_base_patch32_384.augreg", "it is --student vit-base here, with --patch-size 32 --image-size 384\n"),
            ("mae_vit_large_patch16", "it is --student vit-large here\n"),
            ("facebook/vit-mae-base", "it is --student vit-base here\n"),
            ("deit_tiny_patch16_224", "it is --student vit-tiny here\n"), ("base", "it is --student vit-base here\n"),
            ("ViT-B", "it is --student vit-base here\n"), ("resnet50", "use one of vit-miniature, "),
            ("swin_small", "use one of vit-miniature, "),
        ] {
            let result = Command.run(["pretrain", "--data", TinyRun.data, "--student", name, "--dry-run"])
            assertRefused(result, 64, ["--student \(name) is not known: "])
            XCTAssertTrue(result.errors.contains(meant), result.errors)
        }
    }

    func testCommandsOfOtherTools() {
        for (word, meant) in [
            ("distil", "'distill'"), ("fine-tune", "'finetune'"), ("fine_tune", "'finetune'"),
            ("pre-train", "'pretrain'"), ("eval", "'evaluate'"), ("linear-probe", "'probe'"), ("extract", "'embed'"),
            ("export", "'convert'"), ("train", "'distill', 'pretrain' or 'finetune'"), ("Distill", "'distill'"),
            ("reconstrcut", "'reconstruct'"), ("preditc", "'predict'"),
        ] {
            assertRefused([word], 64, "Unexpected argument '\(word)'. Did you mean \(meant)?")
        }
        for word in ["pictures", "x"] {
            let result = Command.run([word])
            assertRefused(result, 64, ["Unexpected argument '\(word)'"])
            XCTAssertFalse(result.errors.contains("Did you mean"), result.errors)
        }
    }

    /// Every word of the table stands for a flag that a command has, and is no flag itself.
    func testEveryWordStandsForAFlag() throws {
        let text = try String(contentsOf: Self.source, encoding: .utf8)
        let flags = Set(
            Self.help.values.joined(separator: "\n").split { " \n,/[]".contains($0) }.filter { $0.hasPrefix("--") }.map
            {
                String($0.dropFirst(2))
            })
        func table(_ name: String, _ row: String) throws -> [(String, String)] {
            let body = try XCTUnwrap(text.components(separatedBy: "static let \(name)").dropFirst().first)
                .components(separatedBy: "\n    ]\n")[0]
            let pattern = try NSRegularExpression(pattern: row)
            return pattern.matches(in: body, range: NSRange(body.startIndex..., in: body)).map { match in
                func group(_ number: Int) -> String { String(body[Range(match.range(at: number), in: body)!]) }
                return (group(1), group(2))
            }
        }
        let rows = try table("flags", #"(?m)^ +"([^"]+)": \[(.*)\],$"#)
        XCTAssertGreaterThan(rows.count, 150)
        for (word, list) in rows {
            let meant = list.components(separatedBy: ", ").map { $0.trimmingCharacters(in: ["\""]) }
            XCTAssertFalse(meant.isEmpty, word)
            for flag in meant {
                XCTAssertTrue(flags.contains(flag.components(separatedBy: " ")[0]), "\(word): --\(flag) is no flag")
            }
            // A word may be the flag of some command, but then of none that has the other one.
            for (command, help) in Self.help where help.contains("--\(word) ") || help.contains("--\(word)\n") {
                let first = meant[0].components(separatedBy: " ")[0]
                XCTAssertFalse(meant.isEmpty || first == word, "\(command): \(word) is the word itself")
            }
        }
        let commands = try table("commands", #"(?m)^ +"([^"]+)": \[(.*)\],$"#)
        XCTAssertGreaterThan(commands.count, 20)
        for (word, list) in commands {
            XCTAssertFalse(Self.commands.contains(word), word)
            for command in list.components(separatedBy: ", ").map({ $0.trimmingCharacters(in: ["\""]) }) {
                XCTAssertTrue(Self.commands.contains(command), "\(word): \(command) is no command")
            }
        }
    }

    /// `-h` is one screen of flags that exist; `--help` has all of them.
    func testShortHelp() {
        for command in Self.commands {
            let result = assertRuns([command, "-h"])
            XCTAssertEqual(result.errors, "")
            let lines = result.output.components(separatedBy: "\n").dropLast()
            XCTAssertLessThanOrEqual(lines.count, 23, result.output)
            XCTAssertTrue(lines[0].hasPrefix("dmae \(command): "), result.output)
            let usageLine = lines.first { $0.hasPrefix("USAGE: dmae \(command)") } ?? ""
            for line in lines where !line.hasPrefix("USAGE: ") { XCTAssertLessThanOrEqual(line.count, 80, line) }
            XCTAssertTrue(lines.last?.hasSuffix("dmae \(command) --help") == true, result.output)
            let shown = lines.filter { $0.hasPrefix("  ") }
            XCTAssertGreaterThanOrEqual(shown.count, 3, result.output)
            for line in shown {
                let words = line.split(separator: " ")
                for word in words where word.hasPrefix("--") && word == words[0] {
                    XCTAssertTrue(Self.help[command]!.contains(word), "\(command): \(word)")
                }
                XCTAssertTrue(line.dropFirst(24).contains { $0.isLetter }, "unexplained: \(line)")
            }
            // What is required is shown.
            let usage = usageLine.components(separatedBy: "[<options>]").last!
            for flag in usage.split(separator: " ") where flag.hasPrefix("--") {
                XCTAssertTrue(shown.contains { $0.contains("\(flag) ") }, "\(command): \(flag)")
            }
            XCTAssertEqual(Command.run([command, "x", "-h"]).output, result.output)
        }
        let program = assertRuns(["-h"]).output
        XCTAssertLessThanOrEqual(program.components(separatedBy: "\n").count, 24)
        for command in Self.commands { XCTAssertTrue(program.contains("\n  \(command) "), program) }
        // The lists of the most used flags name no flag that is gone.
        let text = try! String(
            contentsOf: Self.source.deletingLastPathComponent().appendingPathComponent("ShortHelp.swift"),
            encoding: .utf8)
        var command = "", checked = 0
        for line in text.components(separatedBy: "static let shown")[1].components(separatedBy: "\n    ]\n")[0]
            .components(separatedBy: "\n")
        {
            var names = line.components(separatedBy: "\"").enumerated().filter { $0.offset % 2 == 1 }.map(\.element)
            if line.contains("\": [") { command = names.removeFirst() }
            for name in names {
                checked += 1
                let help = Self.help[command]!
                XCTAssertTrue(
                    ["--\(name) ", "--\(name)\n", "--\(name)/", "<\(name)>"].contains(where: help.contains)
                        || name == "images", "\(command): \(name)")
            }
        }
        XCTAssertGreaterThan(checked, 80)
    }

    /// -o and -q are --output and --quiet.
    func testShortFlags() {
        let folder = TemporaryFolder()
        let embed = [
            "embed", "--weights", Fixtures.path("weights/mae/mae.safetensors"), "--heads", "4", "--data",
            Fixtures.path("weights/images"),
        ]
        let result = assertRuns(embed + ["-q", "-o", folder.file("x.npy")])
        XCTAssertEqual(result.errors, "")
        XCTAssertTrue(folder.names().contains("x.npy"))
        for command in ["distill", "pretrain", "finetune", "probe", "embed", "reconstruct", "preview", "replay"] {
            XCTAssertTrue(Self.help[command]!.contains("\n  -o, --output <"), command)
        }
        for command in ["distill", "pretrain", "finetune", "probe", "embed", "evaluate", "predict", "knn", "inspect"] {
            XCTAssertTrue(Self.help[command]!.contains("\n  -q, --quiet "), command)
        }
    }

    /// A shell leaves ~ alone in quotes and after `=`: it is the home folder all the same, in every path.
    func testHomeFolder() throws {
        let home = TemporaryFolder()
        let environment = ["HOME": home.path]
        for (name, path) in [("w.safetensors", "weights/mae/mae.safetensors"), ("images", "weights/images")] {
            try FileManager.default.copyItem(atPath: Fixtures.path(path), toPath: home.file(name))
        }
        func dmae(_ command: String) -> Command.Result {
            Command.run(
                ["-c", "cd '\(home.path)' && exec '\(Command.binary)' \(command)"], executable: "/bin/sh",
                environment: environment)
        }
        for command in [
            "embed --weights '~/w.safetensors' --heads 4 --data='~/images' -o '~/x.npy'",
            "convert '~/w.safetensors' '~/y.safetensors' --to mae",
            TinyRun.pretrain("'~/run'", epochs: 4, data: "'~/images'").joined(separator: " "),
        ] {
            let result = dmae(command)
            XCTAssertEqual(result.end, .exited(0), result.description)
        }
        XCTAssertEqual(
            Set(home.names()).subtracting([".cache"]),
            ["images", "run", "w.safetensors", "x.npy", "x.npy.files.txt", "x.npy.json", "y.safetensors"])
        for command in ["inspect '~nobody/w.safetensors'", "inspect '~root/w'"] {
            assertRefused(dmae(command), 64, ["was not replaced by a home folder", "write the whole path"])
        }
        assertRefused(
            ["inspect", "~/w.safetensors"], 64, "~ stands for no folder, as HOME is not set", environment: ["HOME": ""])
    }
}
