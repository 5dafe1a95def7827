import ArgumentParser
import Reporting

/// What `-h` prints: one screen of a command's most used options. `--help` prints all of them.
enum ShortHelp {
    /// Lines and columns of a terminal of the usual size; one line is left for the prompt.
    static let lines = 23, columns = 80

    /// The options shown, by command, the most used first; of commands that are not listed, the first ones of their screen.
    private static let shown: [String: [String]] = [
        "distill": [
            "teacher", "data", "output", "recipe", "student", "epochs", "batch", "effective-batch",
            "base-learning-rate", "mask-ratio", "image-size", "val", "precision", "workers", "resume", "dry-run",
        ],
        "pretrain": [
            "data", "output", "recipe", "student", "epochs", "batch", "effective-batch", "base-learning-rate",
            "mask-ratio", "image-size", "val", "precision", "workers", "resume", "dry-run",
        ],
        "finetune": [
            "weights", "train", "val", "output", "recipe", "epochs", "batch", "effective-batch",
            "base-learning-rate", "layer-decay", "drop-path", "image-size", "precision", "workers", "resume", "dry-run",
        ],
        "probe": [
            "weights", "train", "val", "output", "augment", "pool", "epochs", "effective-batch",
            "base-learning-rate", "workers", "resume", "dry-run",
        ],
        "embed": [
            "weights", "data", "output", "force", "pool", "block", "batch", "image-size", "workers", "threads",
            "precision", "quiet",
        ],
        "reconstruct": [
            "weights", "input", "output", "mask-ratio", "mask", "same-mask", "seed", "count", "columns", "image-size",
            "normalize-pixels", "stretch",
        ],
        "evaluate": [
            "weights", "data", "json", "logits", "confusion", "class-map", "batch", "image-size", "workers", "quiet",
        ],
        "predict": ["images", "weights", "json", "csv", "batch", "image-size", "workers", "quiet"],
        "knn": ["weights", "train", "val", "k", "json", "no-baselines", "pool", "batch", "workers", "quiet"],
        "convert": ["input", "output", "to", "dtype", "force", "encoder-only", "prefix", "heads", "image-size"],
        "preview": [
            "data", "recipe", "output", "count", "columns", "seed", "image-size", "mask-ratio", "mixup", "cutmix",
        ],
        "report": ["folder", "output", "terminal", "csv", "input", "count", "classes", "follow", "every", "quiet"],
        "inspect": ["file", "compare", "json", "prefix", "workers", "quiet"],
    ]

    /// The screen of the command that `words` name, or of the program.
    static func text(for words: some Collection<String>) -> String {
        let first = words.first { !$0.hasPrefix("-") }
        guard let command = Dmae.configuration.subcommands.first(where: { $0._commandName == first }) else {
            return program
        }
        let name = command._commandName, screen = HelpScreen(command)
        let entries =
            shown[name].map { names in names.compactMap { name in screen.entries.first { $0.name == name } } }
            ?? Array(screen.entries.prefix(16))
        let width = min(30, entries.map(\.label.count).max() ?? 0)
        var lines = [Format.filled("dmae \(name): \(screen.overview)"), "USAGE: \(screen.usage)", ""]
        for entry in entries {
            let label = "  " + entry.label.padding(to: width) + "  "
            lines.append(label + sentence(entry.text, columns: columns - label.count))
        }
        let left = screen.entries.count - entries.count
        lines += ["", "\(left > 0 ? "\(left) more options, and examples" : "Examples"): dmae \(name) --help"]
        return lines.joined(separator: "\n")
    }

    private static var program: String {
        let commands = Dmae.configuration.subcommands.map { ($0._commandName, $0.configuration.abstract) }
        let width = commands.map(\.0.count).max()!
        return
            (["dmae: \(Dmae.configuration.abstract)", "USAGE: dmae <command> [<options>]", ""]
            + commands.map { name, abstract in
                let label = "  " + name.padding(to: width) + "  "
                return label + sentence(abstract, columns: columns - label.count)
            } + ["", "dmae <command> -h: its most used options; --help: everything"]).joined(separator: "\n")
    }

    /// The first sentence of `text`; where it is longer than `columns`, up to a colon, or else cut at a word.
    private static func sentence(_ text: String, columns: Int) -> String {
        let first = text.firstRange(of: ". ").map { String(text[..<$0.lowerBound]) + "." } ?? text
        guard first.count > columns else { return first }
        let clause = first.indices.last { index in
            ":;(".contains(first[index]) && first.distance(from: first.startIndex, to: index) <= columns
        }
        if let clause, first.distance(from: first.startIndex, to: clause) >= 12 {
            var cut = first[..<clause]
            while cut.last == " " { cut.removeLast() }
            return String(cut)
        }
        var cut = ""
        for word in first.split(separator: " ") {
            guard cut.count + word.count + 3 <= columns else { break }
            cut += (cut.isEmpty ? "" : " ") + word
        }
        return cut + " …"
    }
}

extension String {
    fileprivate func padding(to width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
}
