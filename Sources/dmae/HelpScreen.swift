import ArgumentParser

/// A command's help screen, taken apart: what `-h` shows a part of, and the flags that a command has.
struct HelpScreen {
    /// An argument or option as the screen lists it.
    struct Entry {
        /// "--batch <images>", "-o, --output <file>", "<input>".
        let label: String
        let text: String
        /// The long flag without hyphens; the value's name of an argument without a flag.
        let name: String
    }

    /// Where explanations begin.
    private static let column = 26

    let overview: String
    /// "dmae embed [<options>] --weights <file> …".
    let usage: String
    let entries: [Entry]

    init(_ command: any ParsableCommand.Type) {
        // So wide that the parser breaks no line.
        let lines = Dmae.helpMessage(for: command, columns: 10_000).split(
            separator: "\n", omittingEmptySubsequences: false)
        func rest(_ mark: String) -> String {
            lines.first { $0.hasPrefix(mark) }.map { String($0.dropFirst(mark.count)) } ?? ""
        }
        (overview, usage) = (rest("OVERVIEW: "), rest("USAGE: "))
        var entries: [Entry] = []
        let list = lines.drop { !$0.hasPrefix("USAGE: ") }
        for (number, line) in list.enumerated() where line.hasPrefix("  -") || line.hasPrefix("  <") {
            var label = line.dropFirst(2), text: Substring = ""
            // An explanation begins in a column of its own; where the label reaches into it, on the next line.
            if let next = list.dropFirst(number + 1).first, next.hasPrefix(String(repeating: " ", count: Self.column)) {
                text = next.drop { $0 == " " }
            } else if line.count > Self.column {
                text = line.dropFirst(Self.column)
                label = line.prefix(Self.column).dropFirst(2)
                while label.last == " " { label.removeLast() }
            }
            let name =
                label.split { " /,".contains($0) }.first { $0.hasPrefix("--") }.map { $0.dropFirst(2) }
                ?? label.drop { $0 == "<" }.prefix { $0 != ">" }
            entries.append(Entry(label: String(label), text: String(text), name: String(name)))
        }
        self.entries = entries
    }

    /// Whether the command has the flag `option`, such as "-o".
    func hasShortFlag(_ option: String) -> Bool { entries.contains { $0.label.hasPrefix(option + ",") } }

    /// Whether the command has the flag `--name`.
    func hasFlag(_ name: String) -> Bool {
        entries.contains { $0.label.split { " /,".contains($0) }.contains { $0 == "--" + name } }
    }
}
