import Reporting

/// Which output of a head each class directory of a data set belongs to.
///
/// - Weights that name their classes are held to them: the directories must have the same names, and each belongs to
///   the class of its name.
/// - Without names, directories belong to the outputs in the order of their names' bytes, as torchvision sorts them.
///   timm sorts naturally: a note says so where that order differs, because a head trained in the one order predicts
///   at chance in the other.
/// - A `ClassMap` decides instead of both.
public struct ClassMapping: Equatable, Sendable {
    /// The index in the head of each class directory, in the order of the directories.
    public let indices: [Int]
    /// What the user should know, a sentence each.
    public let notes: [Message]

    /// - Parameters:
    ///   - folder: the names of the class directories, in the order of their bytes.
    ///   - head: outputs of the head.
    ///   - names: the weights' names of their classes; nil without.
    ///   - map: the user's; nil if not given.
    ///   - canMap: whether the user can give a map, which messages then advise.
    ///   - place: the folder, for messages; nil if it has no name.
    ///   - meant: the folder that the user may have meant instead, for messages; nil without one.
    /// - Throws: `Failure.badData` where the directories do not fit the head, with both sides of the difference.
    public init(
        folder: [String], head: Int, names: [String]?, map: ClassMap?, canMap: Bool = true, place: String? = nil,
        meant: String? = nil
    ) throws {
        precondition(names == nil || names!.count == head)
        guard !folder.isEmpty else {
            let whose = place.map { " of \($0)" } ?? ""
            throw Failure(
                .badData,
                "the images\(whose) are not in class directories: name a folder with one directory for each class")
        }
        let mapRemedy: Message = canMap ? ", or give the directories to classes with \(.classMap)" : ""
        let question = meant.map { "; did you mean \($0)?" } ?? ""
        let remedy: Message = "\(mapRemedy)\(question)"
        switch map {
        case .listed(let path, let entries):
            indices = try Self.listed(folder, head, names, path, entries)
            notes = []
        case .natural:
            try Self.requireCount(folder, head, remedy)
            indices = Self.naturalPlaces(folder)
            notes = []
        case nil:
            if let names {
                indices = try Self.named(folder, names, remedy)
                notes = []
            } else {
                try Self.requireCount(folder, head, remedy)
                indices = Array(folder.indices)
                notes = Self.naturalPlaces(folder) == indices ? [] : [Self.note(folder, canMap)]
            }
        }
    }

    private static func requireCount(_ folder: [String], _ head: Int, _ remedy: Message) throws {
        guard folder.count != head else { return }
        throw Failure(
            .badData,
            "the data has \(counted(folder.count, "class directory", "class directories")), but the head of the weights "
                + "has \(counted(head, "class", "classes")): name other data or weights\(remedy)")
    }

    /// The classes of the directories' names, which are compared by bytes.
    private static func named(_ folder: [String], _ names: [String], _ remedy: Message) throws -> [Int] {
        let (data, weights) = (folder.map { Array($0.utf8) }, names.map { Array($0.utf8) })
        let places = Dictionary(weights.enumerated().map { ($1, $0) }) { first, _ in first }
        let present = Set(data)
        let strange = folder.indices.filter { places[data[$0]] == nil }.map { folder[$0] }
        let missing = names.indices.filter { !present.contains(weights[$0]) }.map { names[$0] }
        // Two classes of one name, which ImageNet has, are not told apart by a directory's name.
        let second = names.indices.first { places[weights[$0]] != $0 }
        guard strange.isEmpty, missing.isEmpty, second == nil else {
            var differences: [String] = []
            if !strange.isEmpty { differences.append("only the data has \(some(strange))") }
            if !missing.isEmpty { differences.append("only the weights have \(some(missing))") }
            if differences.isEmpty, let second { differences.append("the weights have \(quoted(names[second])) twice") }
            throw Failure(
                .badData,
                "the data's class directories (\(folder.count)) are not the weights' classes (\(names.count)): "
                    + "\(differences.joined(separator: "; ")); name the data that the weights are for"
                    + remedy)
        }
        return data.map { places[$0]! }
    }

    private static func listed(
        _ folder: [String], _ head: Int, _ names: [String]?, _ path: String, _ entries: [ClassMap.Entry]
    ) throws -> [Int] {
        let byFolder = Dictionary(uniqueKeysWithValues: entries.map { ($0.folder, $0) })
        let missing = folder.filter { byFolder[$0] == nil }
        guard missing.isEmpty else {
            throw Failure(
                .badData,
                "\(quoted(path: path)) leaves out \(missing.count) of the \(folder.count) class directories: "
                    + "\(some(missing)); add a line for each")
        }
        return try folder.map { name in
            let entry = byFolder[name]!
            let place = "\(quoted(path: path)), line \(entry.line)"
            if let index = Int(entry.target) {
                guard (0..<head).contains(index) else {
                    throw Failure(
                        .badData, "\(place): there is no class \(index), the head's are 0 to \(head - 1)")
                }
                return index
            }
            guard let names else {
                throw Failure(
                    .badData,
                    "\(place): the weights do not name their classes, so \(quoted(entry.target)) is none of them; give "
                        + "an index from 0 to \(head - 1)")
            }
            let places = names.indices.filter { names[$0] == entry.target }
            guard let first = places.first else {
                throw Failure(
                    .badData,
                    "\(place): \(quoted(entry.target)) is no class of the weights; theirs are "
                        + "\(names.prefix(3).map { quoted($0) }.joined(separator: ", "))"
                        + (names.count > 3 ? " and \(names.count - 3) more" : ""))
            }
            guard places.count == 1 else {
                throw Failure(
                    .badData,
                    "\(place): \(quoted(entry.target)) is the name of classes "
                        + "\(places.map(String.init).joined(separator: " and ")); give the index")
            }
            return first
        }
    }

    private static func note(_ folder: [String], _ canMap: Bool) -> Message {
        let natural = NaturalOrder.sorted(folder)
        let place = folder.indices.first { folder[$0] != natural[$0] }!
        let remedy: Message = canMap ? ": \(.classMap, ClassMap.naturalWord) takes that one" : ""
        return
            "the weights do not name their classes: class directories are taken in the order of their bytes, in which "
            + "\(quoted(folder[place])) is class \(place); in the natural order, which timm trains with, it would be "
            + "\(quoted(natural[place]))" + remedy
    }

    /// The place of each directory in the natural order.
    private static func naturalPlaces(_ folder: [String]) -> [Int] {
        let order = NaturalOrder.order(folder)
        var places = [Int](repeating: 0, count: folder.count)
        for (place, index) in order.enumerated() { places[index] = place }
        return places
    }

    private static func some(_ names: [String]) -> String {
        names.prefix(3).map { quoted($0) }.joined(separator: ", ")
            + (names.count > 3 ? " and \(names.count - 3) more" : "")
    }

    private static func counted(_ count: Int, _ one: String, _ several: String) -> String {
        "\(count) \(count == 1 ? one : several)"
    }
}
