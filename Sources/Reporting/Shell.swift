/// Words of a command line that a person is shown, to be typed or copied.
package enum Shell {
    /// `text` as one word: in single quotes where a shell would split or change it, in bash's `$'…'` where a terminal would
    /// obey a character.
    package static func word(_ text: String) -> String {
        func isPlain(_ character: Character) -> Bool {
            character.isASCII && (character.isLetter || character.isNumber || "-_./:=,+@%".contains(character))
        }
        guard text.isEmpty || !text.allSatisfy(isPlain) else { return text }
        guard !text.unicodeScalars.contains(where: \.isObeyed) else {
            let bytes = text.unicodeScalars.map { scalar -> String in
                switch scalar {
                case "\n": return "\\n"
                case "\t": return "\\t"
                case "'", "\\": return "\\\(scalar)"
                default:
                    guard scalar.isObeyed else { return String(scalar) }
                    return String(scalar).utf8.map {
                        "\\x" + ($0 < 16 ? "0" : "") + String($0, radix: 16)
                    }.joined()
                }
            }
            return "$'" + bytes.joined() + "'"
        }
        return "'" + text.replacing("'", with: "'\\''") + "'"
    }
}
