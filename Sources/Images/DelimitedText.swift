import Reporting

/// The records of comma-separated values (RFC 4180), with what spreadsheets write: a byte order mark, lines that end in
/// LF or CR LF, empty lines.
package struct DelimitedText {
    struct Record: Equatable {
        /// The number of the line on which the record begins, from 1.
        let line: Int
        let fields: [String]
    }

    let records: [Record]

    /// - Parameter name: stands for the file in messages.
    /// - Throws: `Failure.badData` for quotes that are not RFC 4180's, or bytes that are not UTF-8.
    package init(_ bytes: UnsafeRawBufferPointer, named name: String) throws {
        let quote = UInt8(ascii: "\""), comma = UInt8(ascii: ","), cr: UInt8 = 0x0D, lf: UInt8 = 0x0A
        var position = bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0
        var line = 1, records: [Record] = []
        while position < bytes.count {
            let first = line
            var fields: [String] = [], isEnd = false
            while !isEnd {
                var field: [UInt8] = []
                if position < bytes.count, bytes[position] == quote {
                    let opened = line
                    position += 1
                    while true {
                        guard position < bytes.count else {
                            throw Failure(.badData, "\(name): the quote that line \(opened) opens is never closed")
                        }
                        let byte = bytes[position]
                        position += 1
                        if byte == quote {
                            guard position < bytes.count, bytes[position] == quote else { break }
                            position += 1
                        } else if byte == lf {
                            line += 1
                        }
                        field.append(byte)
                    }
                    guard position == bytes.count || [comma, cr, lf].contains(bytes[position]) else {
                        if let separator = Self.otherSeparator(String(UnicodeScalar(bytes[position]))) {
                            throw Self.separated(by: separator, line: line, named: name)
                        }
                        throw Failure(
                            .badData,
                            "\(name): line \(line) goes on after a closing quote: write a quote inside quotes twice")
                    }
                } else {
                    while position < bytes.count, bytes[position] != comma, bytes[position] != lf {
                        guard bytes[position] != quote else {
                            throw Failure(
                                .badData,
                                "\(name): line \(line) has a quote inside a field: put the field in quotes, and write "
                                    + "the quote twice")
                        }
                        field.append(bytes[position])
                        position += 1
                    }
                    if position == bytes.count || bytes[position] == lf, field.last == cr { field.removeLast() }
                }
                if position < bytes.count, bytes[position] == cr { position += 1 }
                guard let text = String(validating: field, as: UTF8.self) else {
                    throw Failure(.badData, "\(name): line \(line) is not UTF-8: save the list as UTF-8")
                }
                fields.append(text)
                isEnd = position == bytes.count || bytes[position] != comma
                if !isEnd {
                    position += 1
                } else if position < bytes.count {
                    guard bytes[position] == lf else {
                        throw Failure(
                            .badData, "\(name): line \(line) holds a carriage return: end lines in LF or CR LF")
                    }
                    position += 1
                    line += 1
                }
            }
            if fields != [""] { records.append(Record(line: first, fields: fields)) }
        }
        self.records = records
    }

    /// What else than commas seems to separate the columns in `text`; nil if nothing does.
    static func otherSeparator(_ text: String) -> String? {
        text.contains(";") ? "semicolons" : text.contains("\t") ? "tabs" : nil
    }

    /// The failure for a line with another separator.
    static func separated(by separator: String, line: Int, named name: String) -> Failure {
        Failure(.badData, "\(name): line \(line) has \(separator) between its columns: separate them by commas")
    }
}
