/// The words for fields at the place where a person sets them.
public protocol Vocabulary: Sendable {
    /// The words for the field: a flag on a command line, a key such as "mask_ratio" in a description.
    func name(_ field: Field) -> String
    /// The field with a value: the name, a space and the value, unless said otherwise.
    func phrase(_ field: Field, _ value: String) -> String
    /// The field switched on or off: the name, with "no" before it where it is off, unless said otherwise.
    func phrase(_ field: Field, isOn: Bool) -> String
}

extension Vocabulary {
    public func phrase(_ field: Field, _ value: String) -> String { "\(name(field)) \(value)" }
    public func phrase(_ field: Field, isOn: Bool) -> String { isOn ? name(field) : "no \(name(field))" }
}

/// Fields in plain words, for a reader who has neither a command line nor a description before them.
public struct PlainWords: Vocabulary {
    public init() {}
    public func name(_ field: Field) -> String { field.rawValue }
}
