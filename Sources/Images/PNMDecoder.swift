import CCodecs

/// Decodes the formats of Netpbm, as Pillow does: PBM, PGM and PPM, as text (P1 to P3) and binary (P4 to P6), with a
/// maximum of up to 65535. Grey with a maximum above 255 has 16 bits.
struct PNMDecoder: PictureDecoder {
    let header: PictureHeader
    var transparency: Transparency? { nil }

    /// The file from the pixels on.
    private let data: ByteCursor
    private let isText: Bool
    private let isBilevel: Bool
    /// The value of white.
    private let maximum: Int

    init(_ file: UnsafeRawBufferPointer) throws {
        guard file.count >= 3 else { throw PictureDamage.truncated }
        let form = Int(file[1]) - 0x30
        isText = form <= 3
        isBilevel = form % 3 == 1
        var text = PNMText(ByteCursor(file, at: 3))
        let width = try text.number(), height = try text.number()
        maximum = isBilevel ? 1 : try text.number()
        guard (1...65535).contains(maximum) else { throw PictureDamage.damaged("a maximum of \(maximum)") }
        let isGrey = form % 3 != 0
        header = PictureHeader(
            width: width, height: height,
            samples: !isGrey ? DMAE_SAMPLES_RGB : maximum > 255 ? DMAE_SAMPLES_GREY16 : DMAE_SAMPLES_GREY,
            bitDepth: maximum > 255 ? 16 : 8)
        data = text.cursor
    }

    func read(into samples: UnsafeMutablePointer<UInt8>) throws {
        let count = header.width * header.height * (header.samples == DMAE_SAMPLES_RGB ? 3 : 1)
        switch (isText, isBilevel) {
        case (true, true):
            var text = PNMText(data)
            for pixel in 0..<count { samples[pixel] = try text.bit() ? 0 : 255 }
        case (true, false):
            var text = PNMText(data)
            for place in 0..<count {
                let value = try text.number()
                guard value <= maximum else {
                    throw PictureDamage.damaged("a sample of \(value), where the maximum is \(maximum)")
                }
                write(value, place, to: samples)
            }
        case (false, true):
            var cursor = data
            let rowCount = (header.width + 7) / 8
            let bytes = try cursor.take(rowCount * header.height)
            for y in 0..<header.height {
                for x in 0..<header.width {
                    let isBlack = bytes[y * rowCount + x / 8] >> (7 - x % 8) & 1 == 1
                    samples[y * header.width + x] = isBlack ? 0 : 255
                }
            }
        case (false, false):
            var cursor = data
            let bytes = try cursor.take(count * (maximum > 255 ? 2 : 1))
            if maximum == 255 {
                UnsafeMutableRawPointer(samples).copyMemory(from: bytes.baseAddress!, byteCount: count)
            } else if maximum < 255 {
                for place in 0..<count { write(Int(bytes[place]), place, to: samples) }
            } else {
                for place in 0..<count {
                    write(Int(bytes[2 * place]) << 8 | Int(bytes[2 * place + 1]), place, to: samples)
                }
            }
        }
    }

    /// Writes a value as sample number `place`: scaled, so that the maximum becomes 255 or 65535, and rounded as Python
    /// does, halves to even.
    @inline(__always)
    private func write(_ value: Int, _ place: Int, to samples: UnsafeMutablePointer<UInt8>) {
        let is16Bit = header.samples == DMAE_SAMPLES_GREY16, white = is16Bit ? 65535 : 255
        let scaled = (Double(value) / Double(maximum) * Double(white)).rounded(.toNearestOrEven)
        let sample = Swift.min(white, Int(scaled))
        if is16Bit {
            samples[2 * place] = UInt8(sample >> 8)
            samples[2 * place + 1] = UInt8(sample & 0xFF)
        } else {
            samples[place] = UInt8(sample)
        }
    }
}

/// Numbers in text, with comments from "#" to the end of the line, which do not separate digits.
private struct PNMText {
    private(set) var cursor: ByteCursor

    init(_ cursor: ByteCursor) {
        self.cursor = cursor
    }

    /// The next character outside comments; nil at the end of the file.
    private mutating func character() -> UInt8? {
        guard var byte = cursor.next() else { return nil }
        while byte == UInt8(ascii: "#") {
            while let other = cursor.next(), other != 0x0A, other != 0x0D {}
            guard let next = cursor.next() else { return nil }
            byte = next
        }
        return byte
    }

    /// The next number, of at most ten digits, with the space behind it.
    mutating func number() throws -> Int {
        var number = 0, digits = 0
        while let byte = character() {
            if isSpace(byte) {
                if digits == 0 { continue }
                return number
            }
            guard (0x30...0x39).contains(byte), digits < 10 else { throw PictureDamage.damaged("a wrong number") }
            number = 10 * number + Int(byte - 0x30)
            digits += 1
        }
        guard digits > 0 else { throw PictureDamage.truncated }
        return number
    }

    /// The next digit, 0 or 1.
    mutating func bit() throws -> Bool {
        while let byte = character() {
            if isSpace(byte) { continue }
            guard byte == 0x30 || byte == 0x31 else { throw PictureDamage.damaged("a wrong digit") }
            return byte == 0x31
        }
        throw PictureDamage.truncated
    }
}

extension PNMDecoder {
    /// Whether a file begins as one of these formats does: with P1 to P6, a space and, perhaps after more spaces and
    /// comments, a digit.
    static func recognises(_ file: UnsafeRawBufferPointer) -> Bool {
        guard file.count >= 3, file[0] == UInt8(ascii: "P"), (0x31...0x36).contains(file[1]), isSpace(file[2]) else {
            return false
        }
        var isComment = false
        for byte in file.prefix(FileKind.headCount).dropFirst(3) {
            if isComment {
                isComment = byte != 0x0A && byte != 0x0D
            } else if byte == UInt8(ascii: "#") {
                isComment = true
            } else if !isSpace(byte) {
                return (0x30...0x39).contains(byte)
            }
        }
        return true
    }
}

/// Whether a byte is a space, a tab or a line break.
@inline(__always)
private func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0D).contains(byte) }
