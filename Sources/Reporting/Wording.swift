/// `text` as it may stand in a one-line message: quoted, control characters escaped, shortened past `limit` characters.
package func quoted(_ text: String, limit: Int = 80) -> String {
    var shown = ""
    for (index, scalar) in text.unicodeScalars.enumerated() {
        if index == limit { return "\"\(shown)…\"" }
        shown += scalar.properties.generalCategory == .control ? scalar.escaped(asASCII: true) : String(scalar)
    }
    return "\"\(shown)\""
}

/// A path as it may stand in a one-line message: whole, quoted, control characters escaped.
package func quoted(path: String) -> String {
    quoted(path, limit: .max)
}

/// The first names of several, as they may stand in a one-line message: control characters escaped, "…" for the rest.
package func firstNames(_ names: [String], limit: Int = 3) -> String {
    let shown = names.prefix(limit).map { name in
        visible(name).replacing("\n", with: "\\n").replacing("\t", with: "\\t")
    }
    return shown.joined(separator: ", ") + (names.count > limit ? ", …" : "")
}

/// `text` for a terminal: control characters, which a file's name may hold and a terminal would obey, are escaped. Line
/// breaks and tabs stay.
package func visible(_ text: String) -> String {
    var shown = ""
    for scalar in text.unicodeScalars {
        let isObeyed = (scalar.value < 0x20 && scalar != "\n" && scalar != "\t") || (0x7F...0x9F).contains(scalar.value)
        if isObeyed { shown += scalar.escaped(asASCII: true) } else { shown.unicodeScalars.append(scalar) }
    }
    return shown
}
