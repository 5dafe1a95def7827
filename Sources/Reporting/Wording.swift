extension Unicode.Scalar {
    /// Whether a terminal or an editor obeys the character instead of showing it: control characters, of which U+009B
    /// begins a command, line separators, and marks of the direction of writing, which let a text seem to be another.
    /// Joiners, which words and pictures of several characters need, only shape what is beside them.
    package var isObeyed: Bool {
        switch properties.generalCategory {
        case .control, .lineSeparator, .paragraphSeparator: true
        case .format: self != "\u{200C}" && self != "\u{200D}"
        default: false
        }
    }
}

/// `text` with the characters escaped that a terminal would obey, but for those of `kept`. Cut after `limit` characters
/// with the text that `rest` gives for their number.
package func escaped(
    _ text: String, keeping kept: Set<Unicode.Scalar> = [], limit: Int = .max, rest: (Int) -> String = { _ in "…" }
) -> String {
    var shown = ""
    for (index, scalar) in text.unicodeScalars.enumerated() {
        if index == limit { return shown + rest(text.unicodeScalars.count) }
        if scalar.isObeyed, !kept.contains(scalar) {
            shown += scalar.escaped(asASCII: true)
        } else {
            shown.unicodeScalars.append(scalar)
        }
    }
    return shown
}

/// `text` as it may stand in a one-line message: quoted, without characters that a terminal would obey, shortened past
/// `limit` characters.
package func quoted(_ text: String, limit: Int = 80) -> String { "\"\(escaped(text, limit: limit))\"" }

/// A path as it may stand in a one-line message: whole, quoted, without characters that a terminal would obey.
package func quoted(path: String) -> String {
    quoted(path, limit: .max)
}

/// The first names of several, as they may stand in a one-line message; "…" for the rest.
package func firstNames(_ names: [String], limit: Int = 3) -> String {
    names.prefix(limit).map { escaped($0) }.joined(separator: ", ") + (names.count > limit ? ", …" : "")
}

/// `text` for a terminal: characters that a file's name may hold and a terminal would obey are escaped. Line breaks and
/// tabs stay.
package func visible(_ text: String) -> String { escaped(text, keeping: ["\n", "\t"]) }
