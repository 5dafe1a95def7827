import FoundationEssentials
import Images
import Reporting

/// Text of a page. Everything that comes from files and names goes through `escaped`.
package enum HTML {
    /// `text` as the content of an element or of a quoted attribute. Control characters, and those that change the
    /// direction of a text, are shown as their codes.
    package static func escaped(_ text: String) -> String {
        var shown = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": shown += "&amp;"
            case "<": shown += "&lt;"
            case ">": shown += "&gt;"
            case "\"": shown += "&quot;"
            case "'": shown += "&#39;"
            default:
                // What no document may hold is escaped, too.
                if scalar.isObeyed || scalar.properties.isNoncharacterCodePoint {
                    shown += scalar.escaped(asASCII: true)
                } else {
                    shown.unicodeScalars.append(scalar)
                }
            }
        }
        return shown
    }

    /// A picture inside the page.
    static func image(_ picture: Pixels, alt: String, width: Int? = nil) throws -> String {
        let data = Data(try PNGWriter.encode(picture)).base64EncodedString()
        return "<img src=\"data:image/png;base64,\(data)\" alt=\"\(escaped(alt))\""
            + " width=\"\(width ?? picture.width)\" height=\"\((width ?? picture.width) * picture.height / picture.width)\">"
    }

    /// A table; cells are HTML. The first row is the header, and the first cell of each other row names it.
    static func table(_ rows: [[String]], class name: String = "", caption: String? = nil) -> String {
        var text = "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"\(escaped(caption ?? "table"))\">"
        text += "<table\(name.isEmpty ? "" : " class=\"\(name)\"")>"
        if let caption { text += "<caption><span>\(escaped(caption))</span></caption>" }
        for (number, row) in rows.enumerated() {
            if number == 0 { text += "<thead>" }
            text += "<tr>"
            for (column, cell) in row.enumerated() {
                if number == 0 {
                    text += "<th scope=\"col\">\(cell)</th>"
                } else if column == 0 {
                    text += "<th scope=\"row\">\(cell)</th>"
                } else {
                    text += "<td>\(cell)</td>"
                }
            }
            text += "</tr>"
            if number == 0 { text += "</thead><tbody>" }
        }
        return text + "</tbody></table></div>\n"
    }
}
