import Reporting

/// A strict reader of JSON text (RFC 8259) that reads the bytes once, one token at a time.
///
/// It does not recurse and allocates only the strings it returns, so the cost of hostile text is bounded by its length.
package struct JSONReader {
    /// An error in the text, worded to follow "the header …".
    struct Fault: Error {
        let message: String
    }

    private let bytes: UnsafeRawBufferPointer
    private(set) var position = 0
    /// Called from time to time with the bytes that were read and are no longer needed.
    private let release: ((Range<Int>) -> Void)?
    private var released = 0
    private static let releaseStep = 1 << 22
    /// Maximum bytes of one string, with its escapes; checked before the string is copied.
    package static let maximumString = 1 << 22

    /// - Parameter release: drops the pages of these bytes if the text is part of a mapped file, so that a long text is
    ///   never in memory as a whole.
    init(_ bytes: UnsafeRawBufferPointer, release: ((Range<Int>) -> Void)? = nil) {
        self.bytes = bytes
        self.release = release
    }

    /// What is wrong with `text` as JSON, in words that follow its name; nil for one whole value.
    package static func fault(in text: [UInt8]) -> String? {
        text.withUnsafeBytes { bytes in
            var reader = JSONReader(bytes)
            do {
                try reader.skip()
                try reader.expectEnd()
                return nil
            } catch {
                return (error as? Fault)?.message ?? "\(error)"
            }
        }
    }

    /// The path of the first key, such as "model.width", that an object of `text` holds twice; nil if there is none. Readers
    /// of JSON take one of the values and say nothing.
    ///
    /// - Parameter text: JSON without a `fault`, and therefore not deeply nested.
    package static func repeatedKey(in text: [UInt8]) -> String? {
        var repeated: String?
        func read(_ reader: inout JSONReader, _ path: String) throws {
            switch reader.peek() {
            case 0x7B:
                var keys: Set<[UInt8]> = []
                try reader.object { reader, key in
                    let inner = path.isEmpty ? key : "\(path).\(key)"
                    if !keys.insert(Array(key.utf8)).inserted, repeated == nil { repeated = inner }
                    try read(&reader, inner)
                }
            case 0x5B: try reader.array { try read(&$0, path) }
            default: try reader.skip()
            }
        }
        text.withUnsafeBytes { bytes in
            var reader = JSONReader(bytes)
            try? read(&reader, "")
        }
        return repeated
    }

    private func fault(_ what: String) -> Fault {
        Fault(message: position < bytes.count ? "\(what) at byte \(position)" : "\(what) before its end")
    }

    private mutating func skipSpace() {
        while position < bytes.count {
            if position - released >= Self.releaseStep {
                release?(released..<position)
                released = position
            }
            let byte = bytes[position]
            guard byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 else { return }
            position += 1
        }
    }

    /// The next byte that is not white space, without consuming it; nil at the end.
    mutating func peek() -> UInt8? {
        skipSpace()
        return position < bytes.count ? bytes[position] : nil
    }

    /// Consumes `character` if it comes next.
    mutating func take(_ character: Character) -> Bool {
        guard peek() == character.asciiValue else { return false }
        position += 1
        return true
    }

    mutating func expect(_ character: Character) throws {
        guard take(character) else { throw fault("is not JSON: '\(character)' is missing") }
    }

    /// Throws if anything but white space follows.
    mutating func expectEnd() throws {
        if peek() != nil { throw fault("is followed by something that is not white space") }
    }

    /// Calls `member` with each key of an object; `member` reads the value.
    mutating func object(_ member: (inout JSONReader, String) throws -> Void) throws {
        try expect("{")
        if take("}") { return }
        repeat {
            guard peek() == 0x22 else { throw fault("is not JSON: a quoted key is missing") }
            let key = try string()
            try expect(":")
            try member(&self, key)
        } while take(",")
        try expect("}")
    }

    /// Calls `element` for each element of an array; `element` reads it.
    mutating func array(_ element: (inout JSONReader) throws -> Void) throws {
        try expect("[")
        if take("]") { return }
        repeat { try element(&self) } while take(",")
        try expect("]")
    }

    /// An integer ≥ 0 that fits in an Int, without sign, fraction, exponent or leading zero.
    mutating func natural() throws -> Int {
        guard let first = peek() else { throw fault("is not JSON: a number is missing") }
        if first == 0x2D { throw fault("holds a negative number") }
        guard (0x30...0x39).contains(first) else { throw fault("is not JSON: a number is missing") }
        let start = position
        var value = 0
        while position < bytes.count, (0x30...0x39).contains(bytes[position]) {
            let (product, overflow) = value.multipliedReportingOverflow(by: 10)
            let (sum, carry) = product.addingReportingOverflow(Int(bytes[position] - 0x30))
            if overflow || carry { throw fault("holds a number beyond 2^63") }
            value = sum
            position += 1
        }
        if first == 0x30, position - start > 1 { throw fault("is not JSON: a number starts with 0") }
        if position < bytes.count, bytes[position] == 0x2E || bytes[position] | 0x20 == 0x65 {
            throw fault("holds a number that is not an integer")
        }
        return value
    }

    /// Skips one value of any kind. Its punctuation and strings are checked, the format of its numbers is not.
    mutating func skip() throws {
        // The open containers around the position: true for an object, false for an array.
        var open: [Bool] = []
        repeat {
            switch peek() {
            case 0x7B, 0x5B:
                let isObject = take("{")
                if !isObject { try expect("[") }
                if take(isObject ? "}" : "]") { break }
                guard open.count < 64 else { throw fault("is nested more than 64 deep") }
                open.append(isObject)
                if isObject {
                    _ = try string()
                    try expect(":")
                }
                continue
            case 0x22: _ = try string()
            default:
                let start = position
                while position < bytes.count, Self.isInBareWord(bytes[position]) { position += 1 }
                if position == start { throw fault("is not JSON: a value is missing") }
            }
            // After a value: close the containers that end here, or continue with the next value.
            while let isObject = open.last {
                if take(",") {
                    if isObject {
                        _ = try string()
                        try expect(":")
                    }
                    break
                }
                try expect(isObject ? "}" : "]")
                open.removeLast()
            }
        } while !open.isEmpty
    }

    /// Whether a byte may be part of a number, true, false or null.
    private static func isInBareWord(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x61...0x7A).contains(byte | 0x20) || byte == 0x2B || byte == 0x2D
            || byte == 0x2E
    }

    /// A string, with its escapes resolved and its UTF-8 validated.
    mutating func string() throws -> String {
        try expect("\"")
        let start = position
        let end = min(bytes.count, start + Self.maximumString + 1)
        func checkLength() throws {
            if position - start > Self.maximumString {
                throw Fault(message: "holds a string of more than \(Self.maximumString) bytes at byte \(start)")
            }
        }
        while position < end, bytes[position] != 0x22, bytes[position] != 0x5C, bytes[position] >= 0x20 {
            position += 1
        }
        try checkLength()
        if position < bytes.count, bytes[position] == 0x22 {
            position += 1
            return try decoded(UnsafeRawBufferPointer(rebasing: bytes[start..<position - 1]))
        }
        var text = [UInt8](bytes[start..<position])
        while true {
            guard position < bytes.count else { throw fault("is not JSON: a string is not closed") }
            let byte = bytes[position]
            if byte < 0x20 { throw fault("is not JSON: a string holds a raw control character") }
            position += 1
            if byte == 0x22 { break }
            try checkLength()
            if byte == 0x5C { try appendEscape(to: &text) } else { text.append(byte) }
        }
        return try text.withUnsafeBytes { try decoded($0) }
    }

    private func decoded(_ text: UnsafeRawBufferPointer) throws -> String {
        guard let string = String(validating: text, as: UTF8.self) else {
            throw Fault(message: "is not UTF-8 in the string before byte \(position)")
        }
        return string
    }

    private mutating func appendEscape(to text: inout [UInt8]) throws {
        guard position < bytes.count else { throw fault("is not JSON: a string is not closed") }
        let byte = bytes[position]
        position += 1
        switch byte {
        case 0x22, 0x5C, 0x2F: text.append(byte)
        case 0x62: text.append(0x08)
        case 0x66: text.append(0x0C)
        case 0x6E: text.append(0x0A)
        case 0x72: text.append(0x0D)
        case 0x74: text.append(0x09)
        case 0x75:
            var scalar = try fourHexadecimalDigits()
            if (0xD800...0xDBFF).contains(scalar), position + 1 < bytes.count, bytes[position] == 0x5C,
                bytes[position + 1] == 0x75
            {
                position += 2
                let low = try fourHexadecimalDigits()
                guard (0xDC00...0xDFFF).contains(low) else {
                    throw fault("is not JSON: half of a surrogate pair is missing")
                }
                scalar = 0x10000 + (scalar - 0xD800) << 10 + (low - 0xDC00)
            }
            guard let value = Unicode.Scalar(scalar) else {
                throw fault("is not JSON: half of a surrogate pair is missing")
            }
            text.append(contentsOf: Array(String(value).utf8))
        default:
            position -= 1
            throw fault("is not JSON: an unknown escape")
        }
    }

    private mutating func fourHexadecimalDigits() throws -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<4 {
            guard position < bytes.count, let digit = Character(Unicode.Scalar(bytes[position])).hexDigitValue,
                bytes[position] < 0x80
            else { throw fault("is not JSON: \\u is not followed by four hexadecimal digits") }
            value = value << 4 | UInt32(digit)
            position += 1
        }
        return value
    }
}
