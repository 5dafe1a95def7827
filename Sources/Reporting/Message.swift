/// A sentence for a person, which may name fields: "\(.maskRatio) must be below 1". The place that shows it has a
/// `Vocabulary` and asks for the `text`.
public struct Message: Hashable, Codable, Sendable {
    enum Part: Hashable, Codable, Sendable {
        case text(String)
        case field(Field)
        /// A field and its value, as in "mask ratio 0.75".
        case value(Field, String)
        /// A field that is on or off.
        case toggle(Field, isOn: Bool)
    }

    /// Adjacent texts are merged and no text is empty, so that equal messages have equal parts.
    private(set) var parts: [Part] = []

    /// The sentence in the words of `vocabulary`.
    public func text(in vocabulary: some Vocabulary) -> String {
        parts.map { part in
            switch part {
            case .text(let text): text
            case .field(let field): vocabulary.name(field)
            case .value(let field, let value): vocabulary.phrase(field, value)
            case .toggle(let field, let isOn): vocabulary.phrase(field, isOn: isOn)
            }
        }.joined()
    }

    /// Whether the sentence names `field`.
    public func names(_ field: Field) -> Bool {
        parts.contains { part in
            switch part {
            case .text: false
            case .field(let other), .value(let other, _), .toggle(let other, _): other == field
            }
        }
    }

    private mutating func append(_ part: Part) {
        guard case .text(let more) = part else { return parts.append(part) }
        if case .text(let text) = parts.last {
            parts[parts.count - 1] = .text(text + more)
        } else if !more.isEmpty {
            parts.append(part)
        }
    }

    private mutating func append(_ message: Message) {
        for part in message.parts { append(part) }
    }

    public static func + (first: Message, second: Message) -> Message {
        var sum = first
        sum.append(second)
        return sum
    }
}

extension Message: ExpressibleByStringInterpolation {
    public init(stringLiteral text: String) { append(.text(text)) }

    public init(stringInterpolation: StringInterpolation) { self = stringInterpolation.message }

    public struct StringInterpolation: StringInterpolationProtocol {
        fileprivate var message = Message()

        public init(literalCapacity: Int, interpolationCount: Int) {}

        public mutating func appendLiteral(_ text: String) { message.append(.text(text)) }

        public mutating func appendInterpolation(_ field: Field) { message.append(.field(field)) }

        /// "\(.maskRatio, 0.75)": the field and its value.
        public mutating func appendInterpolation(_ field: Field, _ value: some CustomStringConvertible) {
            message.append(.value(field, value.description))
        }

        /// As above; a whole number has no decimal point.
        public mutating func appendInterpolation(
            _ field: Field, _ value: some BinaryFloatingPoint & CustomStringConvertible
        ) {
            message.append(.value(field, Format.shortest(value)))
        }

        /// "\(.normalizePixels, false)": the field as it is switched on or off.
        public mutating func appendInterpolation(_ field: Field, _ isOn: Bool) {
            message.append(.toggle(field, isOn: isOn))
        }

        public mutating func appendInterpolation(_ other: Message) { message.append(other) }

        public mutating func appendInterpolation<Value>(_ value: Value) { appendLiteral("\(value)") }
    }
}

extension Message: CustomStringConvertible {
    /// The sentence with the fields in plain words.
    public var description: String { text(in: PlainWords()) }
}

extension Sequence<Message> {
    /// The messages in order, with `separator` between them.
    public func joined(separator: Message) -> Message {
        var joined = Message()
        for (index, message) in enumerated() { joined = index == 0 ? message : joined + separator + message }
        return joined
    }
}
