import Weights

/// Events as TensorBoard's files hold them: each a protobuf message `Event` in a TFRecord. Only the fields that a run
/// needs are written:
///
///     TFRecord    uint64 length; uint32 masked CRC-32C of it; the message; uint32 masked CRC-32C of the message
///     Event       double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5;
///                 SessionLog session_log = 7
///     Summary     repeated Value value = 1
///     Value       string tag = 1; float simple_value = 2; Image image = 4
///     Image       int32 height = 1, width = 2, colorspace = 3 (its channels); bytes encoded_image_string = 4
///     SessionLog  SessionStatus status = 1 (START = 1)
///
/// Numbers are little-endian. (tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto)
struct EventRecord {
    /// The record, ready to be appended to a file.
    private(set) var bytes: [UInt8] = []
    // Reused for every event.
    private var event = ProtobufMessage(), summary = ProtobufMessage(), value = ProtobufMessage()
    private var image = ProtobufMessage()

    /// A picture as a PNG file.
    struct Picture {
        let tag: String
        let width, height, channels: Int
        let file: [UInt8]
    }

    /// The first event of a file.
    mutating func setVersion(time: Double) {
        begin(time, step: 0)
        event.add(3, bytes: "brain.Event:2".utf8)
        finish()
    }

    /// A process begins with `step`: readers drop events of this and later steps that they have read before.
    mutating func setStart(time: Double, step: Int) {
        begin(time, step: step)
        value.removeAll()
        value.add(1, integer: 1)
        event.add(7, bytes: value.bytes)
        finish()
    }

    /// The values of one line of the log. `add` is called with a function that adds one.
    mutating func setScalars(time: Double, step: Int, _ add: ((_ tag: String, _ value: Float) -> Void) -> Void) {
        begin(time, step: step)
        add { tag, number in
            value.removeAll()
            value.add(1, bytes: tag.utf8)
            value.add(2, float: number)
            summary.add(1, bytes: value.bytes)
        }
        event.add(5, bytes: summary.bytes)
        finish()
    }

    mutating func setPictures(time: Double, step: Int, _ pictures: [Picture]) {
        begin(time, step: step)
        for picture in pictures {
            image.removeAll()
            image.add(1, integer: picture.height)
            image.add(2, integer: picture.width)
            image.add(3, integer: picture.channels)
            image.add(4, bytes: picture.file)
            value.removeAll()
            value.add(1, bytes: picture.tag.utf8)
            value.add(4, bytes: image.bytes)
            summary.add(1, bytes: value.bytes)
        }
        event.add(5, bytes: summary.bytes)
        finish()
    }

    private mutating func begin(_ time: Double, step: Int) {
        event.removeAll()
        summary.removeAll()
        event.add(1, double: time)
        if step != 0 { event.add(2, integer: step) }
    }

    /// Frames the event.
    private mutating func finish() {
        bytes.removeAll(keepingCapacity: true)
        bytes.append(littleEndian: UInt64(event.bytes.count))
        bytes.append(littleEndian: bytes.withUnsafeBytes(Self.maskedChecksum))
        bytes.append(contentsOf: event.bytes)
        bytes.append(littleEndian: event.bytes.withUnsafeBytes(Self.maskedChecksum))
    }

    /// The mask keeps checksums of bytes that hold checksums from being trivial.
    private static func maskedChecksum(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
        let checksum = CRC32.of(bytes, .castagnoli)
        return (checksum >> 15 | checksum << 17) &+ 0xA282_EAD8
    }

    // MARK: Reading

    /// The length of a file up to and including its last whole event of a step ≤ `step`.
    ///
    /// - Parameters:
    ///   - file: the contents of a file, in which steps do not fall.
    ///   - keepsEvaluation: whether events after that of the optimiser step `step`, of the same step, stay, too.
    static func lengthKept(_ file: UnsafeRawBufferPointer, after step: Int, keepsEvaluation: Bool) -> Int {
        var place = 0
        while let length = length(ofRecordAt: place, in: file) {
            let message = UnsafeRawBufferPointer(rebasing: file[place + 12..<place + 12 + length])
            let found = Self.step(of: message)
            guard found <= step else { return place }
            if !keepsEvaluation, found == step, hasSummary(message), !isOptimizerStep(message) { return place }
            place += 16 + length
        }
        return place
    }

    /// The length of the message of the record at `place`; nil where there is no whole one.
    private static func length(ofRecordAt place: Int, in file: UnsafeRawBufferPointer) -> Int? {
        guard file.count - place >= 16 else { return nil }
        func number<Number: FixedWidthInteger>(_ type: Number.Type, at place: Int) -> Number {
            Number(littleEndian: file.loadUnaligned(fromByteOffset: place, as: Number.self))
        }
        func isWhole(_ range: Range<Int>) -> Bool {
            number(UInt32.self, at: range.upperBound) == maskedChecksum(UnsafeRawBufferPointer(rebasing: file[range]))
        }
        guard let length = Int(exactly: number(UInt64.self, at: place)), length <= file.count - place - 16,
            isWhole(place..<place + 8), isWhole(place + 12..<place + 12 + length)
        else { return nil }
        return length
    }

    /// The step comes second in our events, after a time of nine bytes.
    private static func step(of message: UnsafeRawBufferPointer) -> Int {
        guard message.count > 10, message[9] == 2 << 3 else { return 0 }
        var value: UInt64 = 0, shift: UInt64 = 0
        for byte in message[10...] {
            value |= UInt64(byte & 0x7F) << shift
            shift += 7
            if byte < 0x80 || shift > 56 { break }
        }
        return Int(value)
    }

    /// Whether the field after the step is a summary.
    private static func hasSummary(_ message: UnsafeRawBufferPointer) -> Bool {
        guard message.count > 10, message[9] == 2 << 3 else { return false }
        let end = message[10...].firstIndex { $0 < 0x80 } ?? message.count
        return end + 1 < message.count && message[end + 1] == 5 << 3 | 2
    }

    private static func isOptimizerStep(_ message: UnsafeRawBufferPointer) -> Bool {
        // The field of the tag, its length and its bytes.
        let tag = [1 << 3 | 2, UInt8(RunLog.learningRateKey.utf8.count)] + Array(RunLog.learningRateKey.utf8)
        return message.firstRange(of: tag) != nil
    }
}

/// A protobuf message that is being written.
private struct ProtobufMessage {
    private(set) var bytes: [UInt8] = []

    mutating func removeAll() { bytes.removeAll(keepingCapacity: true) }

    /// An integer that is not negative.
    mutating func add(_ field: Int, integer: Int) {
        append(field << 3)
        append(integer)
    }

    mutating func add(_ field: Int, double: Double) {
        append(field << 3 | 1)
        bytes.append(littleEndian: double.bitPattern)
    }

    mutating func add(_ field: Int, float: Float) {
        append(field << 3 | 5)
        bytes.append(littleEndian: float.bitPattern)
    }

    /// Text in UTF-8, bytes or a message.
    mutating func add(_ field: Int, bytes more: some Collection<UInt8>) {
        append(field << 3 | 2)
        append(more.count)
        bytes.append(contentsOf: more)
    }

    /// Seven bits in a byte, the lowest first.
    private mutating func append(_ number: Int) {
        var rest = UInt64(number)
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }
}

extension [UInt8] {
    fileprivate mutating func append(littleEndian number: some FixedWidthInteger) {
        Swift.withUnsafeBytes(of: number.littleEndian) { append(contentsOf: $0) }
    }
}
