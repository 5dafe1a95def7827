import Foundation
import Images
import Interchange
import Reporting
import TestSupport
import Weights
import XCTest

/// What transformers' and timm's configurations say of pictures, against the pixels that these tools make.
final class StatedPreprocessingTests: XCTestCase {
    /// The weights of a small encoder, or a classifier of ten classes, in a folder with `files`.
    private func weights(
        _ files: [String: String], named name: String = "model.safetensors", isClassifier: Bool = false
    ) throws -> ModelWeights {
        let place = TemporaryFolder()
        places.append(place)
        place.write(
            try Data(
                contentsOf: URL(
                    fileURLWithPath: Fixtures.path(
                        "weights/" + (isClassifier ? "timm/timm.safetensors" : "mae/mae.safetensors")))), name)
        for (file, text) in files { place.write(Data(text.utf8), file) }
        return try ModelWeights(path: place.file(name))
    }
    private var places: [TemporaryFolder] = []

    private func stated(_ files: [String: String]) throws -> StatedPreprocessing? {
        try weights(files).statedPreprocessing
    }

    func testPixelsEqualTheTools() throws {
        let recorded = try SafeTensorsFile(path: Fixtures.path("preprocessing/expected.safetensors"))
        XCTAssertEqual(recorded.names.count, 11)
        let pictures = try ["ant/1.png", "cat/deep/1.png"].map {
            try Pixels(contentsOf: Fixtures.path("classifiers/images/" + $0), as: .torchvision)
        }
        for name in recorded.names {
            let file = name.hasPrefix("timm") ? "config.json" : "preprocessor_config.json"
            let text = try String(contentsOfFile: Fixtures.path("preprocessing/\(name)/\(file)"), encoding: .utf8)
            let found = try XCTUnwrap(try stated([file: text]), name)
            XCTAssertEqual(found.origin, file)
            XCTAssertEqual(found.notes, [], name)
            let expected = try recorded.floats(name), count = 3 * 32 * 32
            let augmentation = Augmentation(
                width: 32, height: 32, framing: .centre, preprocessing: found.preprocessing)
            let own = found.preprocessing.normalisation
            // Byte / 255, minus mean, divided by deviation: three roundings of numbers up to 1 + mean.
            let bound = zip(own.mean, own.deviation).map { 3 * Float.ulpOfOne * (1 + abs($0)) / $1 }.max()!
            for (index, picture) in pictures.enumerated() {
                var values = [Float](repeating: .nan, count: count)
                augmentation.normalisation.write(
                    augmentation.apply(to: picture, seed: 0, epoch: 0, index: 0), to: &values)
                let worst = zip(values, expected[index * count..<(index + 1) * count]).map { abs($0 - $1) }.max()!
                XCTAssertLessThanOrEqual(worst, bound, "\(name), picture \(index)")
            }
        }
    }

    /// What is not followed is said; what states nothing of pictures is nothing.
    func testOddConfigurations() throws {
        let half = #""image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]"#
        func hugging(_ keys: String) throws -> StatedPreprocessing? {
            try stated(["preprocessor_config.json": "{\(half), \(keys)}"])
        }
        func timm(_ keys: String) throws -> StatedPreprocessing? {
            try stated(["config.json": #"{"architecture": "vit", "pretrained_cfg": {\#(keys)}}"#])
        }
        let cases: [(StatedPreprocessing?, CentreCrop, Interpolation, String?)] = [
            (
                try hugging(#""size": 32, "resample": 2"#), CentreCrop(fraction: 1, squashes: true, roundsDown: true),
                .bilinear, nil
            ),
            (
                try hugging(#""size": 36, "feature_extractor_type": "CLIPFeatureExtractor", "crop_size": 32"#),
                CentreCrop(side: 32, of: 36, roundsDown: true)!, .bicubic, nil
            ),
            (
                try hugging(#""size": {"shortest_edge": 40}, "do_center_crop": false"#),
                CentreCrop(side: 32, of: 40, roundsDown: true)!, .bicubic, nil
            ),
            (
                try hugging(#""size": {"shortest_edge": 24}, "crop_size": 32, "do_center_crop": true"#),
                CentreCrop(fraction: 1, roundsDown: true), .bicubic, "larger than the resized picture"
            ),
            (
                try hugging(#""size": {"longest_edge": 24}, "resample": 0"#), CentreCrop(roundsDown: true), .bicubic,
                "filter 0 of Pillow"
            ),
            (
                try hugging(#""do_resize": false"#), CentreCrop(fraction: 1, squashes: true, roundsDown: true),
                .bicubic,
                nil
            ),
            (try timm(#""crop_pct": 0.9, "interpolation": "nearest""#), CentreCrop(fraction: 0.9), .bicubic, "nearest"),
            (try timm(#""crop_pct": 1.5"#), CentreCrop(fraction: 1), .bicubic, "crop_pct of 1.5"),
            (
                try timm(#""crop_mode": "border", "mean": [0.5], "std": [0.5]"#), CentreCrop(fraction: 0.875), .bicubic,
                "border"
            ),
        ]
        for (number, (found, crop, interpolation, note)) in cases.enumerated() {
            let found = try XCTUnwrap(found, "\(number)")
            XCTAssertEqual(found.preprocessing.crop, crop, "\(number)")
            XCTAssertEqual(found.preprocessing.interpolation, interpolation, "\(number)")
            let notes = found.notes.map { $0.text(in: Words()) }.joined(separator: "\n")
            if let note { XCTAssertTrue(notes.contains(note), notes) } else { XCTAssertEqual(notes, "", "\(number)") }
        }
        XCTAssertNil(try stated([:]))
        XCTAssertNil(try stated(["config.json": #"{"model_type": "vit", "hidden_size": 32}"#]))
        XCTAssertNil(try timm(#""num_classes": 3"#))
        XCTAssertNil(try stated(["preprocessor_config.json": #"{"sampling_rate": 16000}"#]))
        // Of weights with another number of classes: these have ten.
        XCTAssertNil(
            try weights(
                ["config.json": #"{"architecture": "vit", "num_classes": 3, "mean": [0.5, 0.5, 0.5]}"#],
                isClassifier: true
            ).statedPreprocessing)
        XCTAssertThrowsError(try stated(["preprocessor_config.json": #"{"image_mean": "grey"}"#])) {
            XCTAssertEqual(($0 as? Failure)?.code, .badData)
        }
    }

    /// Numbers of colours are averaged for an encoder of grey pictures.
    func testChannelsOfStatedNumbers() throws {
        let text = #"{"image_mean": [0.25, 0.5, 0.75], "image_std": 0.5, "size": 32}"#
        XCTAssertEqual(
            try stated(["preprocessor_config.json": text])?.preprocessing.normalisation,
            Normalisation(mean: [0.25, 0.5, 0.75], deviation: [0.5, 0.5, 0.5]))
        let file = try SafeTensorsFile(path: Fixtures.path("weights/mae/mae.safetensors"))
        var writer = SafeTensorsWriter()
        for entry in file.entries where !entry.name.hasPrefix("decoder") && entry.name != "mask_token" {
            let isPatch = entry.name == "patch_embed.proj.weight"
            let shape = isPatch ? [entry.shape[0], 1] + entry.shape[2...] : entry.shape
            writer.add(
                TensorSource(name: entry.name, type: entry.type, shape: shape) { write in
                    guard isPatch else { return try file.withBytes(entry.name, write) }
                    try file.withBytes(entry.name) {
                        try write(UnsafeRawBufferPointer(rebasing: $0[..<($0.count / 3)]))
                    }
                })
        }
        let place = TemporaryFolder()
        try writer.write(to: place.file("model.safetensors"))
        place.write(Data(text.utf8), "preprocessor_config.json")
        let grey = try ModelWeights(path: place.file("model.safetensors"))
        XCTAssertEqual(
            grey.statedPreprocessing?.preprocessing.normalisation, Normalisation(mean: [0.5], deviation: [0.5]))
    }

    /// Numbers that cannot be are refused, with the file and the key.
    func testImpossibleNumbers() throws {
        let huge = "9223372036854775807"
        let half = #""image_mean": 0.5, "image_std": 0.5, "#
        for (keys, words) in [
            (half + #""size": {"shortest_edge": \#(huge)}"#, "size has \(huge) pixels"),
            (half + #""size": {"shortest_edge": 4611686018427387904}, "do_center_crop": true"#, "size has 46"),
            (half + #""size": \#(huge), "crop_size": \#(huge), "do_center_crop": true"#, "size has \(huge)"),
            (half + #""size": {"shortest_edge": 3300}"#, "size has 3300 pixels for a crop of 32"),
            (#""image_mean": [0.5, 0.5], "image_std": 0.5"#, "image_mean has 2 numbers"),
            (#""image_mean": 0.5, "image_std": [1, 1, 1, 1]"#, "image_std has 4 numbers"),
            (#""image_mean": [], "image_std": []"#, "image_mean has 0 numbers"),
            (#""image_mean": 0.5, "image_std": [0, 0, 0]"#, "image_std holds 0.0"),
            (#""image_mean": 0.5, "image_std": [1, -1, 1]"#, "image_std holds -1.0"),
            (half + #""rescale_factor": 0"#, "rescale_factor is 0.0"),
        ] { refused("preprocessor_config.json", "{\(keys)}", words) }
        for (keys, words) in [
            (#""crop_pct": 1e-30"#, "crop_pct is 1e-30, but must be at least 0.01"),
            (#""crop_pct": "0.9""#, "crop_pct is not what timm writes there"),
            (#""mean": [0.5, 0.5], "std": [0.5, 0.5]"#, "mean has 2 numbers"),
            (#""mean": [0.5, 0.5, 0.5], "std": [0, 0.5, 0.5]"#, "std holds 0.0"),
            (#""mean": 0.5"#, "mean is not what"), (#""mean": ["0.5", "0.5", "0.5"]"#, "mean is not what"),
        ] {
            refused("config.json", #"{"architecture": "vit", \#(keys)}"#, words)
            refused("config.json", #"{"architecture": "vit", "pretrained_cfg": {\#(keys)}}"#, words)
        }
        refused("config.json", #"{"architecture": "vit", "num_classes": "x"}"#, "num_classes is not what timm writes")
        refused("config.json", #"{"architecture": "vit", "label_names": "abc"}"#, "label_names is not what timm writes")
        refused("config.json", "", "is no JSON")
        refused("config.json", #"{"architecture": "vi"#, "is no JSON")
        let place = TemporaryFolder()
        place.write(
            try Data(contentsOf: URL(fileURLWithPath: Fixtures.path("weights/mae/mae.safetensors"))),
            "model.safetensors")
        try FileManager.default.createSymbolicLink(
            atPath: place.file("preprocessor_config.json"), withDestinationPath: place.file("none"))
        XCTAssertThrowsError(try ModelWeights(path: place.file("model.safetensors"))) {
            XCTAssertEqual(($0 as? Failure)?.code, .badData)
        }
    }

    private func refused(_ file: String, _ text: String, _ words: String) {
        XCTAssertThrowsError(try stated([file: text]), text) {
            XCTAssertEqual(($0 as? Failure)?.code, .badData, text)
            let said = "\($0)"
            XCTAssertTrue(said.contains(file) && said.contains(words), "\(text): \(said)")
        }
    }

    /// The folder that is named, and the two names that tools give to its weights.
    func testWhichFileItBelongsTo() throws {
        let file = ["preprocessor_config.json": #"{"image_mean": 0.5, "image_std": 0.25}"#]
        let own = Normalisation(mean: [0.5, 0.5, 0.5], deviation: [0.25, 0.25, 0.25])
        for (name, isRead) in [
            ("model.safetensors", true), ("pytorch_model.bin", true), ("mae.safetensors", false), ("model.bin", false),
        ] {
            let weights = try weights(file, named: name)
            XCTAssertEqual(weights.statedPreprocessing != nil, isRead, name)
            // The folder, which may hold one safetensors file of any name.
            guard name != "model.bin" else { continue }
            let folder = try ModelWeights(path: String(weights.path.dropLast(name.count + 1)))
            XCTAssertEqual(folder.preprocessing.normalisation, own, name)
        }
    }

    /// timm's names of classes, wherever its versions put them.
    func testLabelNames() throws {
        let names = (0..<10).map { "\"class \($0)\"" }.joined(separator: ", ")
        for text in [
            #"{"architecture": "vit", "num_classes": 10, "label_names": [\#(names)]}"#,
            #"{"architecture": "vit", "pretrained_cfg": {"label_names": [\#(names)]}}"#,
            #"{"architecture": "vit", "labels": [\#(names)], "mean": [0.5, 0.5, 0.5]}"#,
        ] {
            XCTAssertEqual(
                try weights(["config.json": text], isClassifier: true).classNames, (0..<10).map { "class \($0)" }, text)
        }
    }

    private struct Words: Vocabulary {
        func name(_ field: Field) -> String { field.rawValue }
        func phrase(_ field: Field, _ value: String) -> String { "\(field.rawValue) \(value)" }
        func phrase(_ field: Field, isOn: Bool) -> String { isOn ? field.rawValue : "no " + field.rawValue }
    }
}
