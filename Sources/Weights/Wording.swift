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
