import Foundation

/// An event of TensorBoard's files, read without the program's own code.
public struct EventRead: Equatable {
    public struct Picture: Equatable {
        public var tag = "", width = 0, height = 0, channels = 0
        public var file: [UInt8] = []
    }

    public var time = 0.0
    public var step = 0
    public var version = ""
    public var isStart = false
    public var tags: [String] = []
    public var values: [Float] = []
    public var pictures: [Picture] = []

    /// Thrown for bytes that are not whole records of events.
    public struct Damage: Error { public let place: Int }

    /// The events of a file.
    public static func all(_ file: [UInt8]) throws -> [EventRead] {
        var events: [EventRead] = [], place = 0
        func number(_ count: Int) throws -> UInt64 {
            guard place + count <= file.count else { throw Damage(place: place) }
            defer { place += count }
            return (0..<count).reduce(0) { $0 | UInt64(file[place + $1]) << (8 * UInt64($1)) }
        }
        while place < file.count {
            let start = place, length = Int(try number(8)), head = UInt32(try number(4))
            guard head == masked(file[start..<start + 8]), place + length + 4 <= file.count else {
                throw Damage(place: start)
            }
            let message = file[place..<place + length]
            place += length
            guard UInt32(try number(4)) == masked(message) else { throw Damage(place: start) }
            events.append(try EventRead(message))
        }
        return events
    }

    /// CRC-32C, bit by bit, and TensorFlow's mask.
    private static func masked(_ bytes: ArraySlice<UInt8>) -> UInt32 {
        var state = UInt32.max
        for byte in bytes {
            state ^= UInt32(byte)
            for _ in 0..<8 { state = state & 1 == 1 ? state >> 1 ^ 0x82F6_3B78 : state >> 1 }
        }
        state = ~state
        return (state >> 15 | state << 17) &+ 0xA282_EAD8
    }

    private init(_ message: ArraySlice<UInt8>) throws {
        for field in try Field.all(message) {
            switch field.number {
            case 1: time = Double(bitPattern: field.value)
            case 2: step = Int(field.value)
            case 3: version = String(decoding: field.bytes, as: UTF8.self)
            case 5:
                for value in try Field.all(field.bytes) where value.number == 1 { try add(Field.all(value.bytes)) }
            case 7: isStart = try Field.all(field.bytes).contains { $0.number == 1 && $0.value == 1 }
            default: throw Damage(place: field.number)
            }
        }
    }

    private mutating func add(_ fields: [Field]) throws {
        let tag = String(decoding: fields.first { $0.number == 1 }?.bytes ?? [], as: UTF8.self)
        for field in fields {
            if field.number == 2 {
                tags.append(tag)
                values.append(Float(bitPattern: UInt32(field.value)))
            } else if field.number == 4 {
                var picture = Picture()
                picture.tag = tag
                for part in try Field.all(field.bytes) {
                    switch part.number {
                    case 1: picture.height = Int(part.value)
                    case 2: picture.width = Int(part.value)
                    case 3: picture.channels = Int(part.value)
                    default: picture.file = Array(part.bytes)
                    }
                }
                pictures.append(picture)
            }
        }
    }

    /// A field of a protobuf message.
    private struct Field {
        let number: Int
        var value: UInt64 = 0
        var bytes: ArraySlice<UInt8> = []

        static func all(_ message: ArraySlice<UInt8>) throws -> [Field] {
            var fields: [Field] = [], rest = message
            func take(_ count: Int) throws -> ArraySlice<UInt8> {
                guard count <= rest.count else { throw Damage(place: rest.startIndex) }
                defer { rest = rest.dropFirst(count) }
                return rest.prefix(count)
            }
            func varint() throws -> UInt64 {
                var value: UInt64 = 0, shift: UInt64 = 0
                while true {
                    let byte = try take(1).first!
                    value |= UInt64(byte & 0x7F) << shift
                    shift += 7
                    if byte < 0x80 { return value }
                }
            }
            func fixed(_ count: Int) throws -> UInt64 { try take(count).reversed().reduce(0) { $0 << 8 | UInt64($1) } }
            while !rest.isEmpty {
                let key = try varint()
                var field = Field(number: Int(key >> 3))
                switch key & 7 {
                case 0: field.value = try varint()
                case 1: field.value = try fixed(8)
                case 5: field.value = try fixed(4)
                case 2: field.bytes = try take(Int(try varint()))
                default: throw Damage(place: rest.startIndex)
                }
                fields.append(field)
            }
            return fields
        }
    }
}
