import FoundationEssentials
import Models
import Reporting
import Weights

extension Replay {
    /// An object of a recording's description, with its keys.
    protocol DescribedObject: Decodable {
        associatedtype CodingKeys: CodingKey, CaseIterable
    }

    /// An object of a description in which an unknown key is an error.
    @dynamicMemberLookup
    struct Strict<Object: DescribedObject>: Decodable {
        let object: Object

        init(from decoder: any Swift.Decoder) throws {
            let container = try decoder.container(keyedBy: AnyKey.self)
            let known = Object.CodingKeys.allCases.map(\.stringValue)
            for key in container.allKeys.sorted(by: { $0.stringValue < $1.stringValue })
            where !known.contains(key.stringValue) {
                let path = (container.codingPath.map(\.stringValue) + [key.stringValue]).joined(separator: ".")
                throw DecodingError.dataCorrupted(
                    DecodingError.Context(
                        codingPath: container.codingPath + [key],
                        debugDescription:
                            "the key \(quoted(path)) is not known: leave it out, or use one of "
                            + known.joined(separator: ", ")))
            }
            object = try Object(from: decoder)
        }

        subscript<Value>(dynamicMember path: KeyPath<Object, Value>) -> Value { object[keyPath: path] }
    }

    private struct AnyKey: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }
        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    /// Width, depth and heads of a model.
    struct Size: DescribedObject {
        enum CodingKeys: String, CodingKey, CaseIterable { case width, depth, heads }
        let width, depth, heads: Int

        func encoder(patchSize: Int, imageSize: ImageSize, channels: Int) -> EncoderConfiguration {
            EncoderConfiguration(
                width: width, depth: depth, heads: heads, patchSize: patchSize, imageHeight: imageSize.height,
                imageWidth: imageSize.width, channels: channels)
        }
    }

    /// AdamW's settings.
    struct AdamW: DescribedObject {
        enum CodingKeys: String, CodingKey, CaseIterable {
            case lr, betas, eps
            case weightDecay = "weight_decay"
        }
        let lr: Float
        let betas: [Float]
        let weightDecay: Float
        let eps: Float

        var optimizer: Optimizer {
            Optimizer(beta1: betas[0], beta2: betas[1], epsilon: eps, weightDecay: weightDecay)
        }
    }

    /// The vocabulary of a recording: fields under the keys of its description, other fields in plain words.
    private struct DescriptionKeys: Vocabulary {
        func name(_ field: Field) -> String {
            switch field {
            case .imageSize, .patchSize, .maskRatio, .predictRatio, .reconstructionWeight, .teacherMaskRatio, .dropPath,
                .layerDecay:
                field.rawValue.replacing(" ", with: "_")
            case .normalizePixels: "norm_pix_loss"
            case .projection: "align.projection"
            case .teacherWeight: "distillation.alpha"
            case .temperature: "distillation.temperature"
            // Recordings have no key for these two: they follow from the tensors.
            case .batch: "the number of images"
            case .channels: "the channels of images"
            default: field.rawValue
            }
        }
    }

    /// A file of recorded steps. Its failures name the file and use the keys of its description.
    struct Recording {
        let file: SafeTensorsFile
        /// The JSON under the metadata key `dmae.replay`.
        let text: String

        init(path: String) throws {
            file = try SafeTensorsFile(path: path)
            guard let text = file.metadata["dmae.replay"] else {
                throw Failure(.badData, "\(path): holds no recorded steps: the metadata key dmae.replay is missing")
            }
            self.text = text
        }

        func refusal(_ message: String) -> Failure { Failure(.badData, "\(file.path): \(message)") }

        func describe<Object: DescribedObject>(_ type: Object.Type) throws -> Object {
            try decode(Strict<Object>.self).object
        }

        /// The description as `type`.
        func decode<Description: Decodable>(_ type: Description.Type) throws -> Description {
            do { return try JSONDecoder().decode(type, from: Data(text.utf8)) } catch {
                throw refusal("the description under dmae.replay cannot be read: \(Self.reason(error))")
            }
        }

        /// Runs `body`; its failures name this recording and use the keys of its description.
        func inKeys<Result>(_ body: () throws -> Result) throws -> Result {
            do { return try body() } catch let failure as Failure {
                let code = failure.code == .usage ? .badData : failure.code
                throw Failure(code, "\(file.path): \(failure.message(in: DescriptionKeys()))")
            }
        }

        /// - Throws: `Failure.badData` if the tensor is missing or has another number of dimensions.
        func shape(of name: String, dimensions: Int) throws -> [Int] {
            guard let entry = file[name] else { throw refusal("the tensor \(name) is missing") }
            guard entry.shape.count == dimensions else {
                throw refusal("\(name) has \(entry.shape.count) dimensions instead of \(dimensions)")
            }
            return entry.shape
        }

        /// The values of the tensor `name`, whose shape must be `shape`; `reason` says of what that follows.
        func floats(_ name: String, _ shape: [Int], _ reason: String) throws -> [Float] {
            let found = try self.shape(of: name, dimensions: shape.count)
            guard found == shape else { throw refusal("\(name) has shape \(found), but \(reason) need \(shape)") }
            return try file.floats(name)
        }

        /// The channels of the tensor `images`, whose sides must be those of `size`, and its number of images.
        func images(_ size: ImageSize) throws -> (batch: Int, channels: Int) {
            let shape = try shape(of: "images", dimensions: 4)
            guard shape[0] >= 1, shape[2] == size.height, shape[3] == size.width else {
                throw refusal(
                    "images has shape \(shape), but must be [batch, channels, height, width] with the sides of "
                        + "image_size")
            }
            return (shape[0], shape[1])
        }

        func check(_ optimizer: AdamW, steps: Int) throws {
            guard steps >= 1, optimizer.betas.count == 2 else {
                throw refusal("a replay needs at least one step and two betas")
            }
            guard optimizer.betas.allSatisfy({ (0..<1).contains($0) }) else {
                throw refusal("betas must be at least 0 and below 1, not \(optimizer.betas)")
            }
            for (key, value) in [
                ("lr", optimizer.lr), ("weight_decay", optimizer.weightDecay), ("eps", optimizer.eps),
            ] where value < 0 {
                throw refusal("optimizer.\(key) must be at least 0, not \(value)")
            }
        }

        /// The choice called `text` under `key`; `absent` without a text.
        func choice<Choice: CaseIterable & RawRepresentable>(_ key: String, _ text: String?, absent: Choice) throws
            -> Choice
        where Choice.RawValue == String {
            guard let text else { return absent }
            guard let choice = Choice(rawValue: text) else {
                let names = Choice.allCases.map(\.rawValue).joined(separator: ", ")
                throw refusal("\(key) \(quoted(text)) is not known: use one of \(names)")
            }
            return choice
        }

        private static func reason(_ error: any Error) -> String {
            func key(_ path: [any CodingKey]) -> String {
                path.isEmpty
                    ? "it"
                    : path.map { part in part.intValue.map { "\($0)" } ?? part.stringValue }.joined(separator: ".")
            }
            return switch error {
            case DecodingError.keyNotFound(let missing, let context):
                "\(key(context.codingPath + [missing])) is missing"
            case DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context):
                "\(key(context.codingPath)) has another type than expected"
            case DecodingError.dataCorrupted(let context) where !context.codingPath.isEmpty: context.debugDescription
            default: "it is not JSON, or a number in it does not fit its key"
            }
        }
    }
}
