/// Words of a command line that a person is shown, to be typed or copied.
package enum Shell {
    /// `text` as one word: in single quotes where a shell would split or change it.
    package static func word(_ text: String) -> String {
        func isPlain(_ character: Character) -> Bool {
            character.isASCII && (character.isLetter || character.isNumber || "-_./:=,+@%".contains(character))
        }
        guard text.isEmpty || !text.allSatisfy(isPlain) else { return text }
        return "'" + text.replacing("'", with: "'\\''") + "'"
    }
}
