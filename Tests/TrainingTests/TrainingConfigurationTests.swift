import Foundation
import Images
import Models
import Reporting
import XCTest

import Training

final class TrainingConfigurationTests: XCTestCase {
    /// A fine-tuning run with everything that one can have.
    private func classification() -> TrainingConfiguration {
        var configuration = configuration(teacher: true)
        let encoder = configuration.model!.student
        configuration.method = .finetune
        configuration.model = nil
        configuration.classifier = ClassifierConfiguration(
            encoder: encoder, classes: 5, pool: .mean, dropPath: 0.1, layerDecay: 0.5, smoothing: 0.1,
            teacher: .init(encoder: encoder, pool: .class, weight: 0.5, temperature: 2))
        configuration.randAugment = RandAugment()
        configuration.erasing = RandomErasing()
        configuration.mixing = Mixing()
        configuration.clipGradient = 1
        configuration.groups = 2
        configuration.exchange = .bf16
        configuration.averageDecay = 0.5
        configuration.evaluateEvery = 2
        configuration.validation = "validation"
        configuration.weights = "weights"
        return configuration
    }

    /// The same of a probe, which has its own augmentation.
    private func probing() -> TrainingConfiguration {
        var configuration = classification()
        configuration.method = .probe
        configuration.optimizer = .lars
        configuration.probeAugmentation = .crop
        return configuration
    }

    private func configuration(teacher: Bool) -> TrainingConfiguration {
        let encoder = EncoderConfiguration(width: 12, depth: 3, heads: 3, patchSize: 4, imageHeight: 12, imageWidth: 16)
        let model = ModelConfiguration(
            student: encoder, decoder: DecoderConfiguration(width: 16, depth: 2, heads: 2),
            teacher: teacher ? encoder : nil,
            alignment: AlignmentConfiguration(pairs: teacher ? [AlignedPair(studentBlock: 1, teacherBlock: 0)] : []),
            teacherMaskRatio: teacher ? 0.5 : nil)
        var configuration = TrainingConfiguration(
            method: teacher ? .distill : .pretrain, recipe: "demo", model: model, data: "images",
            teacher: teacher ? "teacher" : nil, batch: 2, accumulation: 3, epochs: 3, warmupEpochs: 1,
            baseLearningRate: 0.1, minimumLearningRate: 0, optimizer: Optimizer(),
            preprocessing: Preprocessing(
                normalisation: Normalisation(mean: [0.5, 0.25, 0.5], deviation: [0.5, 0.5, 0.5]),
                crop: CentreCrop(fraction: 0.5)))
        configuration.validation = "val"
        configuration.evaluateEvery = 1
        configuration.shuffleWindow = 5
        configuration.groups = 2
        configuration.exchange = .bf16
        configuration.weights = "initial"
        configuration.prefix = "student"
        configuration.teacherPrefix = "teacher"
        configuration.neighbors = NeighborSettings(train: "train", validation: "val", everyEpochs: 2)
        configuration.tensorboard = true
        return configuration
    }

    /// The key paths of every value in a JSON object; a list counts as one value, and so does a value that may change.
    private func paths(_ object: [String: Any], free: Set<String>, _ prefix: String = "") -> [String] {
        object.flatMap { key, value in
            let isFree = free.contains(prefix + key)
            return isFree
                ? [prefix + key]
                : (value as? [String: Any]).map { paths($0, free: free, prefix + key + ".") }
                    ?? [prefix + key]
        }
    }

    /// A value that is added to a configuration is compared by resumed runs, or said to be free.
    func testEveryValueIsCompared() throws {
        let distillation = configuration(teacher: true), pretraining = configuration(teacher: false)
        XCTAssertEqual(pretraining.decisiveValues.map(\.key), distillation.decisiveValues.map(\.key))
        for configuration in [distillation, classification(), probing()] {
            let compared = configuration.decisiveValues.map(\.key)
            let free = configuration.keysThatMayChange
            XCTAssertEqual(Set(compared).count, compared.count)
            XCTAssertTrue(free.isDisjoint(with: compared))
            let json = try JSONSerialization.jsonObject(with: Data(configuration.sortedJSON())) as? [String: Any]
            // `RunFormat` refuses another format before the values are compared.
            XCTAssertEqual(Set(paths(try XCTUnwrap(json), free: free)), free.union(compared).union(["format"]))
        }
    }

    /// A run that does not state how pictures are prepared prepares them as MAE does.
    func testPreprocessingThatIsNotStated() throws {
        var stated = configuration(teacher: true)
        stated.preprocessing = .imageNet(channels: 3)
        var json = try XCTUnwrap(JSONSerialization.jsonObject(with: Data(stated.sortedJSON())) as? [String: Any])
        XCTAssertNotNil(json.removeValue(forKey: "preprocessing"))
        let earlier = try JSONDecoder().decode(
            TrainingConfiguration.self, from: JSONSerialization.data(withJSONObject: json))
        XCTAssertNil(earlier.preprocessing)
        XCTAssertNil(stated.difference(from: earlier))
        XCTAssertEqual(earlier.augmentation, stated.augmentation)
        XCTAssertEqual(earlier.validationAugmentation, stated.validationAugmentation)
        XCTAssertNotNil(configuration(teacher: true).difference(from: earlier))
        stated.preprocessing = .imageNet(channels: 1)
        XCTAssertThrowsError(try stated.validate())
    }

    /// A changed value of the JSON is reported by its own setting.
    func testEveryValueIsReported() throws {
        try assertReported(configuration(teacher: true))
        try assertReported(classification())
        try assertReported(probing())
    }

    private func assertReported(_ original: TrainingConfiguration) throws {
        func another(_ key: String, _ value: Any) -> Any {
            switch key {
            case "method": "pretrain"
            case "pool": value as? String == "mean" ? "class" : "mean"
            case "isHard": true
            case "exchange": "f32"
            case "recipe": "other"
            case "algorithm": value as? String == "lars" ? "adamw" : "lars"
            case "probeAugmentation": "none"
            case "precision": "bf16"
            case "teacherPrecision": "int8"
            case "distance": "L2"
            case "projection": "mlp"
            case "pairs": [Any]()
            case "normalizePixels": true
            case "appliesOrientation": false
            case "background": "#123456"
            case "grey16": "scale"
            case "mean", "std": [0.25, 0.125, 0.5]
            case "interpolation": "hamming"
            case "cropFraction": 0.75
            case "squashes", "cropRoundsDown": true
            default: (value as! NSNumber).doubleValue + 1
            }
        }
        func changed(_ object: [String: Any], _ path: [String]) -> [String: Any] {
            var object = object
            let value = object[path[0]]!
            object[path[0]] =
                (value as? [String: Any]).map { changed($0, Array(path.dropFirst())) } ?? another(path[0], value)
            return object
        }
        let json = try XCTUnwrap(JSONSerialization.jsonObject(with: Data(original.sortedJSON())) as? [String: Any])
        for value in original.decisiveValues {
            let object = changed(json, value.key.components(separatedBy: "."))
            let other = try JSONDecoder().decode(
                TrainingConfiguration.self, from: JSONSerialization.data(withJSONObject: object))
            let difference = try XCTUnwrap(original.difference(from: other), value.key)
            XCTAssertEqual(difference.own, value.setting, value.key)
            XCTAssertNotEqual(difference.other, value.setting, value.key)
        }
    }
}
