import Reporting
import Foundation
import Images
import Interchange
import Models
import Tensors
import TestSupport
import Training
import Weights
import XCTest

/// What the documentation catalog says, held to the code: tables, file layouts, names, links and flags.
final class DocumentationTests: XCTestCase {
    private static let root = URL(fileURLWithPath: Fixtures.folder).deletingLastPathComponent()
    private static let catalog = root.appendingPathComponent("Sources/dmae/dmae.docc")

    /// Text of a page, by its name without ".md".
    private static let pages: [String: String] = {
        let files = (try? FileManager.default.contentsOfDirectory(at: catalog, includingPropertiesForKeys: nil)) ?? []
        return Dictionary(
            uniqueKeysWithValues: files.filter { $0.pathExtension == "md" }.map {
                ($0.deletingPathExtension().lastPathComponent, try! String(contentsOf: $0, encoding: .utf8))
            })
    }()

    /// The cells of the table in `page` whose first row has `header` at its left, without that row and the ruler.
    private func table(_ page: String, _ header: String) throws -> [[String]] {
        let lines = try XCTUnwrap(Self.pages[page]).components(separatedBy: "\n")
        let first = try XCTUnwrap(lines.firstIndex { $0.hasPrefix("| \(header) |") }, "\(page): no table \(header)")
        return lines[(first + 2)...].prefix { $0.hasPrefix("|") }.map {
            $0.split(separator: "|", omittingEmptySubsequences: false).dropFirst().dropLast()
                .map { $0.trimmingCharacters(in: .whitespaces) }
        }
    }

    /// Everything between backquotes, code blocks aside.
    private func codes(_ text: String) -> [String] {
        let prose = text.components(separatedBy: "```").enumerated().filter { $0.offset % 2 == 0 }.map(\.element)
            .joined()
        return prose.components(separatedBy: "`").enumerated().filter { $0.offset % 2 == 1 }.map(\.element)
    }

    /// The code blocks of one language.
    private func blocks(_ text: String, _ language: String) -> [String] {
        text.components(separatedBy: "```").enumerated().filter {
            $0.offset % 2 == 1 && $0.element.hasPrefix(language + "\n")
        }
        .map { String($0.element.dropFirst(language.count + 1)) }
    }

    private func files(_ folder: String, _ endings: Set<String>) -> [URL] {
        let all = FileManager.default.enumerator(
            at: Self.root.appendingPathComponent(folder), includingPropertiesForKeys: nil)
        return (all?.compactMap { $0 as? URL } ?? []).filter { endings.contains($0.pathExtension) }
    }

    // MARK: Links and places

    /// Every page is reached from the first one, and no link leads nowhere.
    func testLinks() throws {
        XCTAssertGreaterThanOrEqual(Self.pages.count, 7)
        let link = try NSRegularExpression(pattern: "<doc:([^>]*)>")
        for (name, text) in Self.pages {
            let whole = NSRange(text.startIndex..., in: text)
            let targets = link.matches(in: text, range: whole).map { String(text[Range($0.range(at: 1), in: text)!]) }
            for target in targets { XCTAssertNotNil(Self.pages[target], "\(name) links to \(target)") }
            if name == "dmae" { XCTAssertEqual(Set(targets), Set(Self.pages.keys).subtracting(["dmae"])) }
        }
        let readme = try String(contentsOf: Self.root.appendingPathComponent("README.md"), encoding: .utf8)
        XCTAssertTrue(readme.contains("Sources/dmae/dmae.docc/dmae.md"), "README.md does not link the catalog")
    }

    /// Files and folders of the repository that a page names are there.
    func testPlaces() {
        var count = 0
        for (page, text) in Self.pages {
            for code in codes(text) where ["Sources/", "Tests/", "Fixtures/", "Perf/"].contains(where: code.hasPrefix) {
                let path = Self.root.appendingPathComponent(code).path
                XCTAssertTrue(FileManager.default.fileExists(atPath: path), "\(page) names \(code)")
                count += 1
            }
        }
        XCTAssertGreaterThan(count, 5)
    }

    /// Targets import what the table of rooms allows, and nothing else of the package.
    func testRooms() throws {
        let rooms = try table("dmae", "target")
        let names = rooms.map { $0[0] }
        let targets = try FileManager.default.contentsOfDirectory(
            atPath: Self.root.appendingPathComponent("Sources").path)
        XCTAssertEqual(Set(names), Set(targets.filter { !$0.hasPrefix(".") }))
        for room in rooms {
            var allowed = Set(room[2].components(separatedBy: CharacterSet(charactersIn: ", ")))
            if room[0] == "dmae" {
                allowed = Set(names).subtracting(["dmae", "CKernels", "CCodecs", "CRanks", "CDmae", "DmaeLibrary"])
            }
            // Generated code imports Foundation where there is no FoundationEssentials.
            for source in files("Sources/" + room[0], ["swift"]) where !source.lastPathComponent.hasSuffix(".pb.swift")
            {
                for line in try String(contentsOf: source, encoding: .utf8).components(separatedBy: "\n") {
                    guard line.hasPrefix("import ") else { continue }
                    let module = String(line.dropFirst("import ".count))
                    XCTAssertNotEqual(
                        module, "Foundation", "\(source.lastPathComponent): FoundationEssentials is enough")
                    if names.contains(module) {
                        XCTAssertTrue(
                            allowed.contains(module), "\(room[0])/\(source.lastPathComponent) imports \(module)")
                    }
                }
            }
        }
    }

    // MARK: The method

    func testPresets() throws {
        XCTAssertEqual(
            try table("Method", "encoder"),
            Preset.encoders.map { [$0.name, "\($0.width)", "\($0.depth)", "\($0.heads)", "\($0.patchSize)"] })
        XCTAssertEqual(
            try table("Method", "decoder"),
            Preset.decoders.map { [$0.name, "\($0.width)", "\($0.depth)", "\($0.heads)"] })
    }

    func testRecipes() throws {
        let rows = try table("Method", "value")
        let text = try XCTUnwrap(Self.pages["Method"])
        XCTAssertTrue(text.contains("| value | " + Recipe.all.map(\.name).joined(separator: " | ") + " |"))
        func number(_ value: Double) -> String {
            value == value.rounded() ? "\(Int(value))" : String(format: "%.6g", value)
        }
        let hasTeacher = { (recipe: Recipe, value: String) in recipe.teacher == nil ? "–" : value }
        let expected: [(String, (Recipe) -> String)] = [
            ("command", { $0.method.rawValue }), ("student", { $0.student }), ("teacher", { $0.teacher ?? "–" }),
            ("decoder", { $0.decoder }), ("image size", { "\($0.imageSize)" }),
            ("mask ratio", { number($0.maskRatio) }),
            ("normalised target pixels", { $0.normalizePixels ? "yes" : "no" }),
            (
                "aligned blocks, student:teacher",
                { recipe in
                    hasTeacher(
                        recipe,
                        recipe.alignment.pairs.map { "\($0.studentBlock):\($0.teacherBlock)" }.joined(separator: ", "))
                }
            ),
            ("distance", { hasTeacher($0, $0.alignment.distance.rawValue) }),
            ("projection", { hasTeacher($0, $0.alignment.projection.rawValue) }),
            ("weight α", { hasTeacher($0, number(Double($0.alignment.weight))) }),
            ("effective batch", { "\($0.effectiveBatch)" }), ("batch", { "\($0.batch)" }),
            ("base learning rate", { number($0.baseLearningRate) }),
            ("minimum learning rate", { number($0.minimumLearningRate) }),
            ("epochs", { number($0.epochs) }), ("warm-up epochs", { number($0.warmupEpochs) }),
            ("weight decay", { number(Double($0.optimizer.weightDecay)) }),
            ("β1, β2", { "\(number(Double($0.optimizer.beta1))), \(number(Double($0.optimizer.beta2)))" }),
            ("ε", { String(format: "%.0e", Double($0.optimizer.epsilon)).replacingOccurrences(of: "e-0", with: "e-") }),
            ("crop area", { "\(number($0.cropArea.lowerBound))–\(number($0.cropArea.upperBound))" }),
        ]
        XCTAssertEqual(rows, expected.map { name, value in [name] + Recipe.all.map(value) })
        let pictures = try ImageFolder(Fixtures.path("demo/images")).count
        let words = try XCTUnwrap(Self.pages["GettingStarted"]).split(whereSeparator: \.isWhitespace).joined(
            separator: " ")
        let demo = Recipe.demo
        let sentence =
            "effective batch of \(demo.effectiveBatch) and \(number(demo.epochs)) epochs for its \(pictures) pictures"
        XCTAssertTrue(words.contains(sentence), sentence)
    }

    func testFineTuningRecipes() throws {
        let values = FineTuningRecipe.all.map { recipe -> [String] in
            let numbers = [
                recipe.baseLearningRate, recipe.epochs, recipe.warmupEpochs, recipe.layerDecay, recipe.dropPath,
            ]
            return ["`\(recipe.name)`", "\(recipe.effectiveBatch)"] + numbers.map { String(format: "%.6g", $0) }
        }
        XCTAssertEqual(try table("Downstream", "recipe"), values)
    }

    func testPurposesOfRandomNumbers() throws {
        let purposes = (0...255).compactMap { CounterRandom.Purpose(rawValue: $0) }
        XCTAssertEqual(
            try table("Method", "purpose").map { [$0[0], $0[1]] }, purposes.map { ["\($0)", "\($0.rawValue)"] })
    }

    /// Names and shapes of every parameter of an odd-sized pair, in the order of the table.
    func testTensorNames() throws {
        let student = EncoderConfiguration(
            width: 24, depth: 1, heads: 3, patchSize: 4, imageHeight: 8, imageWidth: 12, channels: 5)
        var teacher = student
        teacher.width = 36
        let configuration = ModelConfiguration(
            student: student, decoder: DecoderConfiguration(width: 20, depth: 1, heads: 2), teacher: teacher,
            alignment: AlignmentConfiguration(pairs: [AlignedPair(studentBlock: 0, teacherBlock: 0)]), maskRatio: 0.5)
        let observed = try ObservedModel(configuration, batch: 2, plan: MemoryPlan())
        let letters = ["D": 24, "Dt": 36, "E": 20, "L": 6, "C": 5, "p": 4, "F": 80]

        var documented: [String: [Int]] = [:]
        for row in try table("Method", "tensor") where row[1] != "" {
            let shape = try row[1].dropFirst().dropLast().components(separatedBy: ", ").map { dimension in
                try dimension.components(separatedBy: "+").reduce(0) { sum, term in
                    let digits = term.prefix { $0.isNumber }
                    let letter = String(term.dropFirst(digits.count))
                    return try sum + (Int(digits) ?? 1) * (letter == "" ? 1 : XCTUnwrap(letters[letter], term))
                }
            }
            for name in codes(row[0]) {
                let name = name.replacingOccurrences(of: ".i.", with: ".0.").replacingOccurrences(
                    of: ".k.", with: ".0.")
                XCTAssertNil(documented.updateValue(shape, forKey: name), name)
            }
        }
        // One row stands for the decoder's blocks.
        for (name, shape) in documented where name.hasPrefix("blocks.") {
            documented["decoder_" + name] = shape.map { $0 / 24 * 20 }
        }
        let actual = Dictionary(uniqueKeysWithValues: observed.parameters.all.map { ($0.name, $0.shape) })
        XCTAssertEqual(documented, actual)
        // The teacher is a part of it.
        for parameter in try XCTUnwrap(observed.teacherParameters).all {
            XCTAssertNotNil(documented[parameter.name], parameter.name)
        }
    }

    /// The page's sentences on the number of tensors and on the kept patches have the numbers of the code.
    func testCounts() throws {
        let page = try XCTUnwrap(Self.pages["Method"]).split(whereSeparator: \.isWhitespace).joined(separator: " ")
        func model(_ preset: String, _ ratio: Double = 0.75) throws -> ModelConfiguration {
            ModelConfiguration(
                student: try XCTUnwrap(Preset.encoder(preset, imageHeight: 224, imageWidth: 224)),
                decoder: try XCTUnwrap(Preset.decoder("dec512d8")), maskRatio: ratio)
        }
        let counts = try ["vit-base", "vit-large"].map { ModelLayout(try model($0)).entries.count }
        let kept = try [0.75, 0.90, 0.95, 0.98].map { try model("vit-base", $0).keptPatches }
        for sentence in [
            "ViT-B are \(counts[0]) tensors with the `dec512d8` decoder, of a ViT-L \(counts[1]).",
            "of 196 patches 0.75 keeps \(kept[0]), 0.90 keeps \(kept[1]), 0.95 keeps \(kept[2]) and 0.98 keeps "
                + "\(kept[3]).",
        ] { XCTAssertTrue(page.contains(sentence), sentence) }
    }

    // MARK: Files

    func testLogFields() throws {
        let folder = TemporaryFolder()
        let log = try RunLog(
            path: folder.file("log.jsonl"), after: 0,
            terms: MaskedAutoencoder.lossTerms + [
                LossTerm(key: "loss_align", name: "alignment", meaning: "", listCount: 1)
            ])
        try log.append(
            StepRecord(
                step: 1, epoch: 0.5, losses: [2, 1, 1], learningRate: 1, gradientNorm: 1,
                imagesPerSecond: 1))
        let line = try XCTUnwrap(JSONSerialization.jsonObject(with: Data(folder.read("log.jsonl"))) as? [String: Any])
        let fields = try table("Runs", "field").flatMap { codes($0[0]) }
        XCTAssertEqual(Set(fields), Set(line.keys))
        let example = try XCTUnwrap(blocks(XCTUnwrap(Self.pages["Runs"]), "json").first)
        let shown = try XCTUnwrap(JSONSerialization.jsonObject(with: Data(example.utf8)) as? [String: Any])
        XCTAssertEqual(Set(shown.keys), Set(line.keys))
    }

    /// The keys of starts.jsonl, and the tags of TensorBoard that are not keys of the log.
    func testStartKeys() throws {
        let folder = TemporaryFolder(), run = folder.file("run")
        assertRuns(TinyRun.pretrain(run, epochs: 1, ["--quiet"]))
        let lines = try String(contentsOfFile: run + "/starts.jsonl", encoding: .utf8).split(separator: "\n").map {
            try XCTUnwrap(JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
        }
        // Which of them the system says differs.
        let keys = [
            "commit", "processor", "host", "system", "folder", "memory_limit", "memory_limit_bytes", "processes",
        ]
        XCTAssertEqual(
            Set(try table("Runs", "key of a start").flatMap { codes($0[0]) }), Set(lines[0].keys).union(keys))
        XCTAssertEqual(Set(try table("Runs", "key of its progress").flatMap { codes($0[0]) }), Set(lines[1].keys))
    }

    /// The keys of `--dry-run --json`.
    func testPlanKeys() throws {
        let output = Command.run(TinyRun.pretrain("", ["--dry-run", "--json"])).output
        let plan = try XCTUnwrap(JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any])
        XCTAssertEqual(
            Set(try table("Runs", "key of the plan").flatMap { codes($0[0]) }),
            // Of several processes only.
            Set(plan.keys).union(["sharing"]))
    }

    /// The values of evaluations while a masked autoencoder trains.
    func testEvaluationKeys() throws {
        var source = ImageNames()
        source.classes = ["a", "b"]
        let plan = MemoryPlan(), configuration = ModelConfiguration.small()
        let augmentation = Augmentation(width: 16, height: 12, framing: .centre)
        let observed = try ObservedModel(configuration, batch: 2, plan: plan)
        let losses = HeldOutLosses(
            of: observed.objective, on: source, augmentation: augmentation, unreadableLimit: 0)
        let neighbors = try PeriodicNeighbors(
            of: observed.parameters, configuration.student, train: source, validation: source,
            augmentation: augmentation, batch: 2, everyEpochs: 1, unreadableLimit: 0, plan: plan)
        let rows = try table("Runs", "evaluation")
        XCTAssertEqual(rows.map { codes($0[0]) }, [losses.terms.map(\.key), neighbors.terms.map(\.key)])
    }

    /// Names of images that are not there.
    private struct ImageNames: ImageSource {
        var classes: [String] = []
        let place: String? = nil
        let count = 20
        func name(_ index: Int) -> String { "\(index)" }
        func label(_ index: Int) -> Int? { index % classes.count }
        func bytes(_ index: Int) throws -> [UInt8] { [] }
    }

    func testConfigurationKeys() throws {
        let recipe = Recipe.paper
        let student = try XCTUnwrap(Preset.encoder(recipe.student, imageHeight: 224, imageWidth: 224))
        var configuration = TrainingConfiguration(
            method: recipe.method, recipe: recipe.name,
            model: ModelConfiguration(student: student, decoder: try XCTUnwrap(Preset.decoder(recipe.decoder))),
            data: "images",
            teacher: "teacher.safetensors", batch: 1, accumulation: 1, epochs: 1, warmupEpochs: 0, baseLearningRate: 1,
            minimumLearningRate: 0, optimizer: recipe.optimizer)
        configuration.validation = "val"
        configuration.evaluateEvery = 1
        configuration.neighbors = NeighborSettings(train: "train", validation: "val", everyEpochs: 10)
        // No run has all of them.
        configuration.classifier = ClassifierConfiguration(encoder: student, classes: 2, pool: .mean)
        configuration.weights = "encoder.safetensors"
        (configuration.prefix, configuration.teacherPrefix) = ("student", "teacher")
        configuration.randAugment = RandAugment()
        configuration.erasing = RandomErasing()
        configuration.mixing = Mixing()
        configuration.probeAugmentation = .crop
        configuration.shuffleWindow = 5000
        configuration.clipGradient = 1
        configuration.groups = 2
        configuration.exchange = .bf16
        configuration.averageDecay = 0.5
        configuration.preprocessing = .imageNet(channels: 3)
        configuration.tensorboard = true
        let json = try configuration.sortedJSON()
        let object = try XCTUnwrap(JSONSerialization.jsonObject(with: Data(json)) as? [String: Any])
        let rows = try table("Runs", "key")
        XCTAssertEqual(Set(rows.flatMap { codes($0[0]) }), Set(object.keys))
        let optimizer = try XCTUnwrap(object["optimizer"] as? [String: Any])
        XCTAssertEqual(
            Set(try XCTUnwrap(rows.first { $0[0] == "`optimizer`" }.map { codes($0[1]) })), Set(optimizer.keys))
    }

    /// The metadata keys and the tensors of a run's files, and of files converted from it, are those that the page
    /// lists.
    func testCheckpointLayout() throws {
        let folder = TemporaryFolder()
        let teacher = folder.file("teacher"), run = folder.file("run"), weights = run + "/model.safetensors"
        assertRuns(TinyRun.pretrain(teacher, epochs: 1, ["--quiet"]))
        // Two passes a step: stopped between them, a checkpoint holds gradients too.
        assertRuns(
            TinyRun.distill(
                run, teacher: teacher + "/model.safetensors", epochs: 1, ["--quiet", "--shuffle-window", "3"]))
        assertRuns(["convert", weights, folder.file("mae.safetensors"), "--to", "mae"])
        let checkpoint = run + "/" + (try XCTUnwrap(TinyRun.checkpoints(run).last))
        let files = try [checkpoint, weights, folder.file("mae.safetensors")].map { try SafeTensorsFile(path: $0) }
        let written = Set(files.flatMap(\.metadata.keys).filter { $0.hasPrefix("dmae.") })
        XCTAssertEqual(Set(try table("Runs", "metadata key").flatMap { codes($0[0]) }), written)

        let names = Set(files[1].names)
        let prefixes = [
            CheckpointStore.firstMomentPrefix, CheckpointStore.secondMomentPrefix, CheckpointStore.momentumPrefix,
            CheckpointStore.averagePrefix,
            CheckpointStore.gradientPrefix,
        ]
        XCTAssertEqual(try table("Runs", "tensors").flatMap { codes($0[0]) }, prefixes.map { $0 + "NAME" })
        for name in files[0].names where !names.contains(name) {
            XCTAssertTrue(
                prefixes.contains { name.hasPrefix($0) && names.contains(String(name.dropFirst($0.count))) }, name)
        }
        XCTAssertTrue(names.isSubset(of: files[0].names))
        XCTAssertLessThan(2 * names.count, files[0].names.count, "no moments")

        let listed = Set(try table("Runs", "file").flatMap { codes($0[0]) })
        for name in try FileManager.default.contentsOfDirectory(atPath: run) {
            let step = CheckpointStore(directory: "", keep: 1).path(step: 1234).dropFirst()
            XCTAssertTrue(listed.contains(name.hasPrefix("checkpoint-") ? String(step) : name), name)
        }
    }

    func testExitCodes() throws {
        let codes = (0...255).compactMap { Failure.Code(rawValue: $0)?.rawValue }
        // Beside the failures: success, and the end by a second SIGINT.
        XCTAssertEqual(try table("Runs", "code").map { Int32($0[0]) }, [0] + codes + [130])
    }

    /// Each promise names tests or targets that exist.
    func testPromises() throws {
        let makefile = try String(contentsOf: Self.root.appendingPathComponent("Makefile"), encoding: .utf8)
        let tests = try files("Tests", ["swift"]).map { try String(contentsOf: $0, encoding: .utf8) }.joined()
        let rows = try table("Promises", "promise")
        XCTAssertGreaterThan(rows.count, 10)
        for row in rows {
            XCTAssertFalse(codes(row[1]).isEmpty, row[0])
            for name in codes(row[1]) {
                if name.hasPrefix("make ") {
                    XCTAssertTrue(makefile.contains("\n\(name.dropFirst(5)):"), name)
                } else {
                    XCTAssertTrue(tests.contains("final class \(name): XCTestCase"), name)
                }
            }
        }
    }

    func testPurposesOfMemory() throws {
        XCTAssertEqual(try table("Runs", "purpose").map { $0[0] }, MemoryPlan.Purpose.allCases.map(\.rawValue))
    }

    /// The keys of a replay's example are in every recording in the repository, and its tables name every key and
    /// tensor.
    func testReplay() throws {
        let text = try XCTUnwrap(Self.pages["Replay"])
        let example = try XCTUnwrap(
            JSONSerialization.jsonObject(with: Data(XCTUnwrap(blocks(text, "json").first).utf8)) as? [String: Any])
        let cases = try Fixtures.golden()
        XCTAssertEqual(Set(try table("Replay", "recording").map { $0[0] }), Set(cases.map(\.name)))
        var shown: Set<String> = []
        for row in text.components(separatedBy: "\n") where row.hasPrefix("|") { shown.formUnion(codes(row)) }
        for recorded in cases {
            let metadata = try XCTUnwrap(recorded.input.metadata["dmae.replay"])
            let description = try XCTUnwrap(JSONSerialization.jsonObject(with: Data(metadata.utf8)) as? [String: Any])
            // Some recordings have more keys than the example; the table has them all.
            XCTAssertTrue(Set(description.keys).isSuperset(of: example.keys), recorded.name)
            for part in ["align", "optimizer", "student"] {
                XCTAssertEqual(
                    Set(try XCTUnwrap(description[part] as? [String: Any]).keys),
                    Set(try XCTUnwrap(example[part] as? [String: Any]).keys), part)
            }
            for key in description.keys where key != "align" { XCTAssertTrue(shown.contains(key), key) }
            for name in recorded.input.names {
                XCTAssertTrue(shown.contains(name) || shown.contains(String(name.prefix { $0 != "." }) + ".NAME"), name)
            }
            for name in recorded.expected.names {
                let parts = name.components(separatedBy: ".")
                let general =
                    Int(parts.last!) == nil ? parts[0] + ".NAME" : parts.dropLast().joined(separator: ".") + ".I"
                XCTAssertTrue(shown.contains(name) || shown.contains(general) || general == "after.NAME", name)
            }
        }
        XCTAssertTrue(codes(text).contains("after.NAME"))
    }

    // MARK: Weights

    /// The names of the table of schemes are read as MAE's name at its left, by the scheme at its top.
    func testNamingSchemes() throws {
        let rows = try table("Weights", "MAE, DMAE")
        let hugging = NamingScheme.huggingFace(prefixed: true)
        for row in rows {
            let canonical = try XCTUnwrap(codes(row[0]).first)
            for (cell, scheme) in zip(row, [.mae, .timm, hugging, hugging, .mmpretrain] as [NamingScheme]) {
                func name(_ text: String) -> String {
                    text.replacingOccurrences(of: ".i.", with: ".7.").replacingOccurrences(of: "*", with: "weight")
                }
                let names = codes(cell)
                if names.isEmpty {
                    XCTAssertEqual(scheme.names(name(canonical)), [], "\(scheme.name) has \(canonical)")
                } else {
                    let found = scheme.canonical(name(names[0]))
                    XCTAssertEqual(found?.name, name(canonical), names[0])
                    XCTAssertEqual(found?.third, names.count == 3 ? 0 : nil, names[0])
                }
            }
        }
        // Every rule of MAE's has its row; a decoder's blocks and a probe's head are told in words.
        let shown = Set(rows.flatMap { codes($0[0]) })
        XCTAssertEqual(shown.count, rows.count)
        let text = try XCTUnwrap(Self.pages["Weights"])
        for word in NamingScheme.wrapperWords { XCTAssertTrue(codes(text).contains(word), word) }
    }

    /// The limits of the table are the constants that it names.
    func testModelFamilies() throws {
        let families = ModelFamily.all.map { family in
            let types = family.types.map { "`\($0)`" }.joined(separator: ", ")
            return [family.name, types.isEmpty ? "–" : types, family.telltale, family.difference]
        }
        XCTAssertEqual(try table("Weights", "this is …"), families)
        let types = ModelFamily.all.flatMap(\.types)
        XCTAssertEqual(types.count, Set(types).count)
    }

    func testLimitsOfFiles() throws {
        let limits = [
            "SafeTensorsHeader.maximumLength": SafeTensorsHeader.maximumLength,
            "JSONReader.maximumString": JSONReader.maximumString,
            "HeaderBudget.maximum": HeaderBudget.maximum,
            "SafeTensorsHeader.maximumRank": SafeTensorsHeader.maximumRank,
            "ShardedFile.maximumShards": ShardedFile.maximumShards,
            "ZIPDirectory.maximumMembers": ZIPDirectory.maximumMembers,
            "ZIPDirectory.maximumDirectoryLength": ZIPDirectory.maximumDirectoryLength,
            "PickleReader.maximumLength": PickleReader.maximumLength,
            "PickleReader.maximumOpcodes": PickleReader.maximumOpcodes,
            "PickleReader.memoryLimit": PickleReader.memoryLimit,
            "PickleNames.maximumDepth": PickleNames.maximumDepth,
            "PickleNames.maximumTensors": PickleNames.maximumTensors,
        ]
        let rows = try table("Weights", "limit")
        XCTAssertEqual(rows.count, limits.count)
        for row in rows {
            let limit = try XCTUnwrap(limits[XCTUnwrap(codes(row[2]).first)], row[2])
            XCTAssertEqual(row[1].replacingOccurrences(of: ",", with: ""), "\(limit)", row[2])
        }
    }

    /// A user's page on performance is one page.
    func testPerformanceIsShort() throws {
        let words = try XCTUnwrap(Self.pages["Performance"]).split(whereSeparator: \.isWhitespace)
            .filter { $0.contains { $0.isLetter || $0.isNumber } }
        XCTAssertLessThanOrEqual(words.count, 1000)
    }

    // MARK: Images and kernels

    func testImages() throws {
        let text = try XCTUnwrap(Self.pages["Data"])
        for ending in ImageFolder.extensions { XCTAssertTrue(codes(text).contains(ending), ending) }
        let formatter = NumberFormatter()
        formatter.locale = Locale(identifier: "en_US")
        formatter.numberStyle = .decimal
        XCTAssertTrue(text.contains(try XCTUnwrap(formatter.string(from: NSNumber(value: Pixels.maximumCount)))))
        let rows = try table("Data", "channels")
        for (row, channels) in zip(rows, [3, 1]) {
            let normalisation = Normalisation.imageNet(channels: channels)
            XCTAssertEqual(row[1], normalisation.mean.map(\.description).joined(separator: ", "))
            XCTAssertEqual(row[2], normalisation.deviation.map(\.description).joined(separator: ", "))
        }
        XCTAssertEqual(rows.count, 2)
    }

    func testVariants() throws {
        let rows = try table("Kernels", "operation")
        let documented = Set(rows.flatMap { $0.flatMap { codes($0) } })
        let present = Set(InstructionSet.variants.map(\.name))
        #if arch(x86_64)
            XCTAssertEqual(documented, present)
        #else
            XCTAssertTrue(documented.isSuperset(of: present))
        #endif
        XCTAssertEqual(Set(rows.map { $0[0] }), Set(InstructionSet.variants.map(\.operation)))
        let text = try XCTUnwrap(Self.pages["Kernels"])
        XCTAssertTrue(
            text.contains("| operation | " + InstructionSet.names.joined(separator: " | ") + " |"))
    }

    // MARK: The command line

    /// Every command and flag that a page or the README shows is in the help of the program.
    func testCommandsAndFlags() throws {
        let binary = Command.binary
        func help(_ arguments: [String]) throws -> String {
            let process = Process()
            process.executableURL = URL(fileURLWithPath: binary)
            process.arguments = arguments + ["--help"]
            let output = Pipe()
            process.standardOutput = output
            try process.run()
            let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
            process.waitUntilExit()
            return text
        }
        /// Flags of a text: "--batch", not "--batch-size" for "--batch".
        func flags(_ text: String) -> Set<String> {
            let flag = try! NSRegularExpression(pattern: "(?<![\\w-])--[a-z][a-z0-9-]*[a-z0-9]")
            let matches = flag.matches(in: text, range: NSRange(text.startIndex..., in: text))
            return Set(matches.map { String(text[Range($0.range, in: text)!]) })
        }
        let known = Dictionary(uniqueKeysWithValues: try Command.subcommands().map { ($0, flags(try help([$0]))) })
        for (command, flags) in known { XCTAssertTrue(flags.contains("--help"), command) }
        let anywhere = known.values.reduce(into: Set(["--generate-completion-script"])) { $0.formUnion($1) }
        var checked = 0
        let readme = try String(contentsOf: Self.root.appendingPathComponent("README.md"), encoding: .utf8)
        for command in known.keys {
            XCTAssertTrue(readme.contains("| `dmae \(command)` |"), "README.md does not list dmae \(command)")
        }
        for (page, text) in Self.pages.merging(["README": readme], uniquingKeysWith: { $1 }) {
            for code in codes(text) where !code.hasPrefix("make ") {
                for flag in flags(code) { XCTAssertTrue(anywhere.contains(flag), "\(page): \(flag)") }
            }
            let shell = blocks(text, "sh").joined(separator: "\n").replacingOccurrences(of: "\\\n", with: " ")
            for line in shell.components(separatedBy: "\n") {
                let words = line.components(separatedBy: " ").filter { !$0.isEmpty }
                guard let program = words.first, program == "dmae" || program.hasSuffix("/dmae") else { continue }
                let command = try XCTUnwrap(words.dropFirst().first, line)
                let own = try XCTUnwrap(known[command], "\(page): \(line)")
                XCTAssertTrue(flags(line).isSubset(of: own), "\(page): \(line)")
                checked += 1
            }
        }
        XCTAssertGreaterThan(checked, 8)
    }
}
