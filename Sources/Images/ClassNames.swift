import Reporting

/// Refuses a source without classes, which `field` sets. Throws `Failure.badData`.
public func requireClasses(_ source: any ImageSource, _ field: Field) throws {
    guard source.classes.isEmpty else { return }
    let place = source.place.map { " \($0)" } ?? ""
    throw Failure(
        .badData,
        "\(field)\(place) has no classes: put the images of each class into a folder of its own, named after the class, "
            + "as in train/CLASS/1.jpg, or name a list with labels")
}

/// Refuses a training and a validation source without classes, or with classes of different names.
///
/// - Parameters:
///   - train: the training images, which are set by `trainField`.
///   - validation: the validation images, which are set by `validationField`.
/// - Throws: `Failure.badData`, with the difference on both sides.
public func requireSameClasses(
    _ train: any ImageSource, _ trainField: Field, _ validation: any ImageSource, _ validationField: Field
) throws {
    try requireClasses(train, trainField)
    try requireClasses(validation, validationField)
    guard train.classes != validation.classes else { return }
    func only(_ classes: [String], without others: [String], _ field: Field) -> Message? {
        let others = Set(others), names = classes.filter { !others.contains($0) }
        guard !names.isEmpty else { return nil }
        let shown = names.prefix(5).map { quoted($0) }.joined(separator: ", ")
        let rest = names.count > 5 ? " and \(names.count - 5) more" : ""
        return "\(shown)\(rest) \(names.count == 1 ? "is" : "are") in \(field) only"
    }
    let differences = [
        only(train.classes, without: validation.classes, trainField),
        only(validation.classes, without: train.classes, validationField),
    ].compactMap { $0 }
    throw Failure(
        .badData,
        "\(trainField) and \(validationField) have different classes: \(differences.joined(separator: "; ")); give both "
            + "the same class folders")
}
