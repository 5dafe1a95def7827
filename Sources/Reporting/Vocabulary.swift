/// The names of fields where a person sets them.
public protocol Vocabulary: Sendable {
    /// The name of the field: a flag on a command line, a key such as "mask_ratio" in a description.
    func name(_ field: Field) -> String
    /// The field with a value; by default the name, a space and the value.
    func phrase(_ field: Field, _ value: String) -> String
    /// The field switched on or off; by default the name, after "no" if it is off.
    func phrase(_ field: Field, isOn: Bool) -> String
}

extension Vocabulary {
    public func phrase(_ field: Field, _ value: String) -> String { "\(name(field)) \(value)" }
    public func phrase(_ field: Field, isOn: Bool) -> String { isOn ? name(field) : "no \(name(field))" }
}

/// Fields in plain words, for messages outside a command line and a description.
public struct PlainWords: Vocabulary {
    public init() {}
    public func name(_ field: Field) -> String { field.rawValue }
}
