import ArgumentParser
import Glibc
import Reporting

/// Words that users of PyTorch, timm, MAE's programs, Hugging Face and other tools type: the word here is named, and
/// nothing is guessed and run.
enum NearMisses {
    /// Flags of other tools, without hyphens, and what they are called here; of several words the first that the command
    /// has. A test holds every word on the right to a flag of some command.
    private static let flags: [String: [String]] = [
        // The schedule and the optimiser
        "b": ["batch"],
        "bs": ["batch"],
        "batch-size": ["batch"],
        "batch-size-per-gpu": ["batch"],
        "per-device-train-batch-size": ["batch"],
        "validation-batch-size": ["batch"],
        "total-batch-size": ["effective-batch"],
        "global-batch-size": ["effective-batch"],
        "accum-iter": ["effective-batch"],
        "accumulation": ["effective-batch"],
        "grad-accum-steps": ["effective-batch"],
        "gradient-accumulation-steps": ["effective-batch"],
        "lr": ["base-learning-rate"],
        "lr-base": ["base-learning-rate"],
        "base-lr": ["base-learning-rate"],
        "blr": ["base-learning-rate"],
        "learning-rate": ["base-learning-rate"],
        "min-lr": ["minimum-learning-rate"],
        "minimum-lr": ["minimum-learning-rate"],
        "final-lr": ["minimum-learning-rate"],
        "min-learning-rate": ["minimum-learning-rate"],
        "wd": ["weight-decay"],
        "decay": ["weight-decay"],
        "eps": ["epsilon"],
        "opt-eps": ["epsilon"],
        "adam-beta1": ["beta1"],
        "adam-beta2": ["beta2"],
        "epoch": ["epochs"],
        "num-epochs": ["epochs"],
        "max-epochs": ["epochs"],
        "num-train-epochs": ["epochs"],
        "warmup": ["warmup-epochs"],
        "warm-up": ["warmup-epochs"],
        "warm-up-epochs": ["warmup-epochs"],
        "num-warmup-epochs": ["warmup-epochs"],
        "clip-grad": ["clip-gradient"],
        "clip-grad-norm": ["clip-gradient"],
        "grad-clip": ["clip-gradient"],
        "gradient-clip": ["clip-gradient"],
        "max-grad-norm": ["clip-gradient"],
        "ld": ["layer-decay"],
        "llrd": ["layer-decay"],
        "layer-wise-decay": ["layer-decay"],
        "layerwise-decay": ["layer-decay"],
        "model-ema": ["ema"],
        "model-ema-decay": ["ema"],
        "ema-decay": ["ema"],
        "random-seed": ["seed"],
        "manual-seed": ["seed"],
        // Files
        "o": ["output"],
        "out": ["output"],
        "outdir": ["output"],
        "out-dir": ["output"],
        "out-file": ["output"],
        "output-dir": ["output"],
        "output-file": ["output"],
        "output-folder": ["output"],
        "output-path": ["output"],
        "save-dir": ["output"],
        "save-path": ["output"],
        "log-dir": ["output"],
        "logging-dir": ["tensorboard"],
        "report-to": ["tensorboard"],
        "logger": ["tensorboard"],
        "tb": ["tensorboard"],
        "tensorboard-dir": ["tensorboard"],
        "run-dir": ["output"],
        "work-dir": ["output"],
        "overwrite": ["force"],
        "overwrite-output-dir": ["force"],
        "exist-ok": ["force"],
        "f": ["force"],
        "data-dir": ["data", "train"],
        "data-path": ["data", "train"],
        "data-root": ["data", "train"],
        "dataset": ["data", "train"],
        "dataset-dir": ["data", "train"],
        "images": ["data", "input", "train"],
        "image": ["input", "data"],
        "inputs": ["input", "data"],
        "input": ["data"],
        "data": ["input"],
        "img": ["input", "data"],
        "train-dir": ["train", "data"],
        "train-data": ["train", "data"],
        "train-path": ["train", "data"],
        "training": ["train", "data"],
        "val-dir": ["val"],
        "val-data": ["val"],
        "val-path": ["val"],
        "valid": ["val"],
        "validation": ["val"],
        "eval-data": ["val"],
        "model": ["weights", "student"],
        "model-path": ["weights"],
        "model-name-or-path": ["weights", "student"],
        "pretrained": ["weights", "init-student"],
        "pretrained-weights": ["weights", "init-student"],
        "finetune": ["weights", "init-student"],
        "init": ["weights", "init-student"],
        "checkpoint": ["weights", "resume"],
        "checkpoint-path": ["weights", "resume"],
        "initial-checkpoint": ["weights", "init-student"],
        "ckpt": ["weights", "resume"],
        "load": ["weights", "resume"],
        "teacher-weights": ["teacher"],
        "teacher-path": ["teacher"],
        "teacher-checkpoint": ["teacher"],
        "teacher-ckpt": ["teacher"],
        "student-weights": ["init-student"],
        "auto-resume": ["resume"],
        "resume-from": ["resume"],
        "resume-from-checkpoint": ["resume"],
        "continue": ["resume"],
        "dryrun": ["dry-run"],
        "dry": ["dry-run"],
        "plan": ["dry-run"],
        "cfg": ["config"],
        "config-file": ["config"],
        "format": ["to"],
        "to-format": ["to"],
        "target": ["to"],
        "class-names": ["class-map"],
        "class-to-idx": ["class-map"],
        "save-logits": ["logits"],
        "confusion-matrix": ["confusion"],
        "encoder": ["encoder-only", "student"],
        // Sizes
        "arch": ["student"],
        "architecture": ["student"],
        "student-model": ["student"],
        "img-size": ["image-size"],
        "input-size": ["image-size"],
        "imgsz": ["image-size"],
        "resolution": ["image-size"],
        "crop-size": ["image-size"],
        "size": ["image-size"],
        "patch": ["patch-size"],
        "in-chans": ["channels"],
        "num-channels": ["channels"],
        "embed-dim": ["width"],
        "hidden-size": ["width"],
        "dim": ["width"],
        "num-layers": ["depth"],
        "num-hidden-layers": ["depth"],
        "layers": ["depth"],
        "num-heads": ["heads"],
        "num-attention-heads": ["heads"],
        "decoder-embed-dim": ["decoder-width"],
        "decoder-dim": ["decoder-width"],
        "decoder-num-heads": ["decoder-heads"],
        "decoder-layers": ["decoder-depth"],
        // The objective
        "mask": ["mask-ratio"],
        "masking-ratio": ["mask-ratio"],
        "mask-prob": ["mask-ratio"],
        "norm-pix": ["normalize-pixels"],
        "norm-pix-loss": ["normalize-pixels"],
        "normalise-pixels": ["normalize-pixels"],
        "no-normalise-pixels": ["no-normalize-pixels"],
        "align-weight": ["alignment-weight"],
        "aligned-blks-indices": ["align"],
        "aligned-blocks": ["align"],
        "alpha": ["alignment-weight"],
        "layer": ["block"],
        "layers-out": ["block"],
        "drop-path-rate": ["drop-path"],
        "stochastic-depth": ["drop-path"],
        "label-smoothing": ["smoothing"],
        "distillation-alpha": ["teacher-weight"],
        "distillation-tau": ["temperature"],
        "global-pool": ["pool"],
        "pooling": ["pool"],
        "pooling-mode": ["pool"],
        // The images
        "aa": ["rand-augment"],
        "auto-augment": ["rand-augment"],
        "randaugment": ["rand-augment"],
        "reprob": ["erasing"],
        "random-erasing": ["erasing"],
        "mixup-alpha": ["mixup"],
        "cutmix-alpha": ["cutmix"],
        "crop-pct": ["crop-fraction"],
        "resample": ["interpolation"],
        "image-mean": ["mean"],
        "image-std": ["std"],
        "min-crop": ["minimum-crop-area"],
        "max-crop": ["maximum-crop-area"],
        // The machine
        "j": ["workers", "threads"],
        "jobs": ["workers", "threads"],
        "num-workers": ["workers"],
        "dataloader-num-workers": ["workers"],
        "t": ["threads"],
        "num-threads": ["threads"],
        "cpus": ["threads"],
        "fp16": ["precision bf16", "dtype f16"],
        "half": ["dtype f16", "precision bf16"],
        "bf16": ["precision bf16", "dtype bf16"],
        "amp": ["precision bf16"],
        "amp-dtype": ["precision"],
        "fp32": ["precision f32", "dtype f32"],
        "type": ["dtype"],
        "torch-dtype": ["dtype", "precision"],
        "int8": ["teacher-precision int8"],
        // The run
        "save-freq": ["checkpoint-every"],
        "save-every": ["checkpoint-every"],
        "save-steps": ["checkpoint-every"],
        "checkpoint-freq": ["checkpoint-every"],
        "save-total-limit": ["keep"],
        "checkpoint-hist": ["keep"],
        "eval-freq": ["evaluate-every", "knn-every"],
        "eval-every": ["evaluate-every", "knn-every"],
        "eval-interval": ["evaluate-every", "knn-every"],
        "val-interval": ["evaluate-every", "knn-every"],
        "nb-knn": ["k"],
        "knn": ["k"],
        "topk": ["k"],
        "neighbors": ["k"],
        "neighbours": ["k"],
        "top-k": ["k"],
        "top": ["k"],
        "q": ["quiet"],
        "silent": ["quiet"],
        "no-progress": ["quiet"],
        "n": ["count"],
        "num": ["count"],
        "number": ["count"],
        "cols": ["columns"],
        "ncols": ["columns"],
        "nrow": ["columns"],
    ]

    /// The flags, without hyphens and values, that a word of another tool may mean, the likeliest first.
    static func flags(meantBy word: String) -> [String] {
        (flags[spelled(word)] ?? []).map { String($0.prefix { $0 != " " }) }
    }

    /// Words of other tools whose value counts otherwise than that of the flag here: the end of a sentence. A number that is
    /// copied would be accepted and mean something else.
    private static let units: [(words: [String], flag: String, text: String)] = [
        (
            ["lr", "learning-rate"], "base-learning-rate",
            "and it is per 256 images of --effective-batch, as MAE's --blr: divide an absolute rate, such as MAE's --lr, by "
                + "effective batch / 256"
        ),
        (
            ["accum-iter", "accumulation", "grad-accum-steps", "gradient-accumulation-steps"], "effective-batch",
            "and it counts the images of an optimiser step: a number of batches times --batch"
        ),
        (
            ["batch-size", "batch-size-per-gpu", "per-device-train-batch-size", "b", "bs"], "effective-batch",
            "the images of one forward and backward pass; --effective-batch has those of an optimiser step, which elsewhere "
                + "are batch size × GPUs × accumulation"
        ),
        (
            ["save-freq", "save-every", "checkpoint-freq"], "checkpoint-every",
            "and it counts optimiser steps, not epochs"
        ),
        (["eval-freq", "eval-every", "eval-interval", "val-interval"], "knn-every", "and it counts epochs"),
        (["eval-freq", "eval-every", "eval-interval", "val-interval"], "evaluate-every", "and it counts epochs"),
    ]

    /// Flags of other tools that have no counterpart, and why.
    private static let reasons: [String: String] = [
        "nb-classes": "the classes are those of the images' folders or lists: leave it out",
        "num-classes": "the classes are those of the images' folders or lists: leave it out",
        "num-labels": "the classes are those of the images' folders or lists: leave it out",
        "v": "everything is said unless --quiet is given: leave it out (`dmae --version` prints the version)",
        "apply-orientation": "images are turned upright unless --stored-orientation is given: leave it out",
        "device": "dmae computes on the processor: leave it out",
        "gpu": "dmae computes on the processor: leave it out",
        "gpus": "dmae computes on the processor: leave it out",
        "cuda": "dmae computes on the processor: leave it out",
        "cpu": "dmae computes on the processor: leave it out",
        "no-cuda": "dmae computes on the processor: leave it out",
        "verbose": "everything is said unless --quiet is given: leave it out",
        "pin-mem": "there is no other memory to pin: leave it out",
        "pin-memory": "there is no other memory to pin: leave it out",
    ]

    /// Values of other tools, by the flag here, and what they are called here.
    private static let values: [String: [String: String]] = [
        "to": [
            "hf": "huggingface", "transformers": "huggingface", "hugging-face": "huggingface", "dmae": "mae",
        ],
        "precision": ["fp32": "f32", "float32": "f32", "bfloat16": "bf16", "float": "f32"],
        "dtype": [
            "fp32": "f32", "float32": "f32", "fp16": "f16", "float16": "f16", "half": "f16", "bfloat16": "bf16",
        ],
    ]

    /// Commands of other tools, and what they are called here.
    private static let commands: [String: [String]] = [
        "train": ["distill", "pretrain", "finetune"],
        "pre-train": ["pretrain"],
        "mae": ["pretrain"],
        "distillation": ["distill"],
        "dmae": ["distill"],
        "fine-tune": ["finetune"],
        "tune": ["finetune"],
        "linprobe": ["probe"],
        "linear": ["probe"],
        "linear-probe": ["probe"],
        "eval": ["evaluate"],
        "test": ["evaluate"],
        "validate": ["evaluate"],
        "val": ["evaluate"],
        "extract": ["embed"],
        "encode": ["embed"],
        "features": ["embed"],
        "embeddings": ["embed"],
        "infer": ["predict"],
        "inference": ["predict"],
        "classify": ["predict"],
        "export": ["convert"],
        "onnx": ["convert"],
        "quantize": ["convert"],
        "info": ["inspect", "doctor"],
        "show": ["inspect"],
        "ls": ["inspect"],
        "list": ["inspect"],
        "diff": ["inspect"],
        "stat": ["inspect"],
        "system": ["doctor"],
        "env": ["doctor"],
        "benchmark": ["bench"],
        "visualize": ["reconstruct", "preview"],
        "visualise": ["reconstruct", "preview"],
        "vis": ["reconstruct", "preview"],
        "demo": ["reconstruct"],
        "plot": ["report"],
        "curves": ["report"],
        "tensorboard": ["report"],
        "summary": ["report"],
        "augment": ["preview"],
        "k-nn": ["knn"],
        "neighbors": ["knn"],
    ]

    /// The flag, with its hyphens, that prints the version: what `dmae -v` and `dmae version` mean.
    private static let versionFlag = "--version"

    /// The refusal of a first word that is no command: with the command that is meant, where one is near.
    static func refusal(ofCommand word: String) -> String {
        if spelled(word) == "version" { return "Unexpected argument '\(word)'. Did you mean '\(versionFlag)'?" }
        let known = Dmae.configuration.subcommands.map { $0._commandName }
        let plain = spelled(word)
        var meant = known.contains(plain) ? [plain] : (commands[plain] ?? []).filter(known.contains)
        if meant.isEmpty {
            let distances = known.map { (distance(plain, $0), $0) }.filter { $0.0 <= 2 && 2 * $0.0 < plain.count }
            let least = distances.map(\.0).min()
            meant = distances.filter { $0.0 == least }.map(\.1)
        }
        let hint = meant.isEmpty ? "" : ". Did you mean \(alternatives(meant.map { "'\($0)'" }))?"
        return "Unexpected argument '\(word)'\(hint)"
    }

    /// The parser's message about an unknown option, with the flag that is meant in place of its own guess, which goes by
    /// spelling alone. Any other message stays as it is.
    ///
    /// - Parameter words: the command line.
    static func explained(_ message: String, words: some Collection<String>) -> String {
        let mark = "Unknown option '"
        guard let first = words.first(where: { !$0.hasPrefix("-") }),
            let command = Dmae.configuration.subcommands.first(where: { $0._commandName == first })
        else {
            guard let word = words.first, ["-v", "-V"].contains(word), let end = message.firstRange(of: "'\(word)'")
            else { return message }
            return message[..<end.upperBound] + ". Did you mean '\(versionFlag)'?" + usage(in: message)
        }
        // An unknown flag is said before anything else: what is missing may stand there under another name, which the parser
        // reports later.
        if message.firstRange(of: mark) == nil, let unknown = firstUnknown(words, of: command) {
            return (message.hasPrefix("Error: ") ? "Error: " : "") + mark + unknown + usage(in: message)
        }
        if let text = named(value: message) ?? placed(message, Array(words), command) { return text }
        guard let start = message.firstRange(of: mark), let end = message[start.upperBound...].firstIndex(of: "'")
        else { return message }
        let option = message[start.upperBound..<end], name = String(option.drop { $0 == "-" }.prefix { $0 != "=" })
        guard let hint = hint(name, of: command) else { return message }
        var rest = message[message.index(after: end)...]
        let guess = ". Did you mean '"
        if rest.hasPrefix(guess), let close = rest.firstRange(of: "'?") { rest = rest[close.upperBound...] }
        return message[..<start.lowerBound] + "\(mark)\(option)': \(hint)" + rest
    }

    /// The parser's message about a value that a flag does not have, with the one that is meant; nil for any other.
    private static func named(value message: String) -> String? {
        guard let start = message.firstRange(of: "The value '"),
            let middle = message[start.upperBound...].firstRange(of: "' is invalid for '--"),
            let end = message[middle.upperBound...].firstIndex(of: "'")
        else { return nil }
        let flag = message[middle.upperBound..<end].prefix { $0 != " " }
        let value = spelled(String(message[start.upperBound..<middle.lowerBound]))
        return values[String(flag)]?[value].map {
            "\(message[...end]): it is called '\($0)' here\(message[message.index(after: end)...])"
        }
    }

    /// The parser's message about an unexpected argument, with what was likely meant; nil for any other.
    private static func placed(_ message: String, _ words: [String], _ command: any ParsableCommand.Type) -> String? {
        let marks = ["Unexpected argument '", "unexpected arguments: '"]
        guard let mark = marks.lazy.compactMap({ message.firstRange(of: $0) }).first else { return nil }
        let head = message[..<(message.firstRange(of: "\nUsage: ")?.lowerBound ?? message.endIndex)]
        let rest = message[head.endIndex...]
        // Words that begin another path, in whose name there are spaces.
        let places = words.indices.filter { place in
            place > 1 && !words[place].hasPrefix("-") && head[mark.lowerBound...].contains("'\(words[place])'")
        }
        if let place = places.first {
            let first = words[..<place].lastIndex { $0.hasPrefix("-") }.map { $0 + 1 } ?? 1
            for start in first..<place {
                for end in (place..<words.count).reversed() {
                    let path = words[start...end].joined(separator: " ")
                    guard access(path, F_OK) == 0 else { continue }
                    return "\(head): \(quoted(path: path)) is there, and a path with spaces needs quotes\(rest)"
                }
            }
        }
        if command == Inspect.self {
            return
                "\(head): dmae inspect takes one file or folder; of two weight files, the second goes with --compare\(rest)"
        }
        let isAfterPath = places.first.map { place in
            words[place - 1].contains("/") || access(words[place - 1], F_OK) == 0
        }
        guard isAfterPath == true else { return nil }
        return "\(head): a path with spaces needs quotes\(rest)"
    }

    /// The usage at the end of the parser's message; empty without one.
    private static func usage(in message: String) -> Substring {
        message.firstRange(of: "\nUsage: ").map { message[$0.lowerBound...] } ?? ""
    }

    /// Flags that every command has beside those of its screen.
    private static let everywhere: Set<String> = [
        "-h", "--help", "--version", "--generate-completion-script", "--experimental-dump-help", "--help-hidden",
    ]

    /// The first option of `words` that the command does not have, and what is to be said of it: "--foo'. Did you mean
    /// '--food'?"; nil if it has all.
    /// Refuses words after one dash: the parser takes each for short flags, and one with an h for a wish for help, with which a
    /// command succeeds that has done nothing.
    ///
    /// - Throws: `Failure.usage`.
    static func refuseWordsAfterOneDash(_ words: [String]) throws {
        guard let first = words.first,
            let command = Dmae.configuration.subcommands.first(where: { $0._commandName == first })
        else { return }
        let short = Set("hoq")
        for word in words.dropFirst().prefix(while: { $0 != "--" })
        where word.hasPrefix("-") && !word.hasPrefix("--") && Double(word) == nil {
            let name = String(word.dropFirst().prefix { $0 != "=" })
            guard name.count > 1, !name.allSatisfy(short.contains) else { continue }
            let isFile = access(word, F_OK) == 0
            let remedy =
                isFile
                ? "; a file of this name is \(escaped("./\(word)"))"
                : hint(name, of: command).map { ": \($0)" } ?? "; `dmae \(first) --help` lists those it has"
            throw Failure(.usage, "Unknown option '\(escaped(word))'\(remedy)")
        }
    }

    private static func firstUnknown(_ words: some Collection<String>, of command: any ParsableCommand.Type) -> String?
    {
        let screen = HelpScreen(command)
        for word in words.prefix(while: { $0 != "--" })
        where word.count > 1 && word.hasPrefix("-") && Double(word) == nil {
            let option = String(word.prefix { $0 != "=" }), name = String(option.drop { $0 == "-" })
            guard !everywhere.contains(option), !(option.hasPrefix("--") && screen.hasFlag(name)),
                !screen.hasShortFlag(option)
            else { continue }
            if let hint = hint(name, of: command) { return "\(option)': \(hint)" }
            let known = screen.entries.lazy.filter { $0.label.hasPrefix("-") }.map { "--" + $0.name }
            let near = known.map { (distance(option, $0), $0) }.filter { $0.0 <= 3 && 3 * $0.0 < option.count }
            return "\(option)'" + (near.min { $0.0 < $1.0 }.map { ". Did you mean '\($0.1)'?" } ?? "")
        }
        return nil
    }

    private static func hint(_ name: String, of command: any ParsableCommand.Type) -> String? {
        let screen = HelpScreen(command), title = "dmae \(command._commandName)", plain = spelled(name)
        let meant = screen.hasFlag(plain) ? [plain] : flags[plain] ?? []
        if let flag = meant.first(where: { screen.hasFlag(String($0.prefix { $0 != " " })) }) {
            // --batch is in its own unit wherever there is an effective batch.
            let unit = units.first { unit in
                unit.words.contains(plain) && screen.hasFlag(unit.flag) && (flag == unit.flag || flag == "batch")
            }
            return "\(title) calls it --\(flag)" + (unit.map { ", \($0.text)" } ?? "")
        }
        if ["topk", "top-k", "top"].contains(plain), command == Predict.self {
            return "\(title) prints the five most probable classes: leave it out"
        }
        // What decides the result of a run was said at its start.
        if command == Resume.self, isFlagOfTraining(plain) || meant.contains(where: isFlagOfTraining) {
            return
                "a run goes on with the values of its start: leave it out. For more epochs, `dmae resume` of a finished run "
                + "prints the command of a new one that starts from its weights"
        }
        // Of commands that take it without a flag.
        if meant.contains("output") || plain == "output", let place = screen.place("output") {
            return "\(title) takes the output without a flag, as its \(place) argument"
        }
        if meant.contains("data") || meant.contains("input") || ["data", "weights"].contains(plain),
            let place = screen.place("input") ?? screen.place("file") ?? screen.place("image|folder|tar|list")
        {
            return "\(title) takes it without a flag, as its \(place) argument"
        }
        return reasons[plain]
    }

    private static func isFlagOfTraining(_ name: String) -> Bool {
        ([Distill.self, Pretrain.self, Finetune.self, Probe.self] as [any ParsableCommand.Type]).contains {
            HelpScreen($0).hasFlag(name)
        }
    }

    /// `name` as names are written here: "mask_ratio" and "maskRatio" as "mask-ratio".
    private static func spelled(_ name: String) -> String {
        var result = ""
        for character in name {
            if character.isUppercase, let last = result.last, last.isLowercase || last.isNumber { result += "-" }
            result += character == "_" || character == "." ? "-" : character.lowercased()
        }
        return result
    }

    /// "'a'", "'a' or 'b'", "'a', 'b' or 'c'".
    private static func alternatives(_ names: [String]) -> String {
        names.count < 2 ? names.joined() : names.dropLast().joined(separator: ", ") + " or " + names.last!
    }

    /// The least number of letters that are inserted, left out, replaced or exchanged with their neighbour to make one
    /// word the other.
    private static func distance(_ first: String, _ second: String) -> Int {
        let a = Array(first), b = Array(second)
        var rows = [Array(0...b.count)]
        for i in 1..<a.count + 1 {
            var row = [i]
            for j in 1..<b.count + 1 {
                var best = min(rows[i - 1][j] + 1, row[j - 1] + 1, rows[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1))
                if i > 1, j > 1, a[i - 1] == b[j - 2], a[i - 2] == b[j - 1] { best = min(best, rows[i - 2][j - 2] + 1) }
                row.append(best)
            }
            rows.append(row)
        }
        return rows[a.count][b.count]
    }
}

extension HelpScreen {
    /// The place of an argument without a flag: "first", "second"; nil if there is none of that name.
    fileprivate func place(_ name: String) -> String? {
        let arguments = entries.filter { $0.label.hasPrefix("<") }
        return arguments.firstIndex { $0.name == name }.map { ["first", "second", "third"][min($0, 2)] }
    }
}

/// Home folders in paths of the command line.
enum HomeFolder {
    /// `word` with a leading `~/` in its path replaced by the home folder. A shell does so unless the word is quoted or the
    /// path stands behind an `=`; without it the path would be that of a folder called ~.
    ///
    /// - Throws: `Failure.usage` for another user's home, or where HOME is not set.
    static func expanded(_ word: String) throws -> String {
        let path =
            word.hasPrefix("-") ? word.firstIndex(of: "=").map { word[word.index(after: $0)...] } ?? "" : word[...]
        guard path.hasPrefix("~") else { return word }
        let user = path.prefix { $0 != "/" }
        if user == "~" {
            guard let home = getenv("HOME").map({ String(cString: $0) }), !home.isEmpty else {
                throw Failure(
                    .usage, "\(quoted(word)): ~ stands for no folder, as HOME is not set: write the whole path")
            }
            return word.dropLast(path.count) + home + path.dropFirst()
        }
        // A name that begins with ~ is a name; a folder of one that is not there is meant as a home.
        guard user.count == path.count || access(String(user), F_OK) == 0 else {
            throw Failure(
                .usage,
                "\(quoted(word)): \(user) was not replaced by a home folder, as the shell does outside quotes: write the "
                    + "whole path")
        }
        return word
    }
}
