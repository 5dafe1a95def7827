import Glibc

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

/// The system's words for an error number.
package func errorText(_ number: Int32) -> String {
    String(cString: strerror(number))
}

/// What a user can do where a path is not opened for errno's reason: `otherwise`, unless it is not the path's doing.
package func remedyForOpening(_ number: Int32, otherwise: String) -> String {
    switch number {
    case EMFILE, ENFILE: "raise the limit on open files (ulimit -n)"
    case ENOMEM: "free some memory and try again"
    default: otherwise
    }
}

/// `text` for a terminal, line breaks and tabs aside: characters that it would obey, as a file's name may hold them,
/// are escaped.
package func visible(_ text: String) -> String {
    var shown = ""
    for scalar in text.unicodeScalars {
        let isObeyed = (scalar.value < 0x20 && scalar != "\n" && scalar != "\t") || (0x7F...0x9F).contains(scalar.value)
        if isObeyed { shown += scalar.escaped(asASCII: true) } else { shown.unicodeScalars.append(scalar) }
    }
    return shown
}
