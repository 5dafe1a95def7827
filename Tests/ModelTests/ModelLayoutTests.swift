import Models
import Tensors
import TestSupport
import XCTest

/// The list of a model's tensors against what its layers allocate.
final class ModelLayoutTests: XCTestCase {
    private func assertSame(_ parameters: Parameters?, _ layout: ModelLayout, _ name: String, line: UInt = #line) {
        let parameters = parameters?.all ?? []
        let allocated = Dictionary(parameters.map { ($0.name, $0.shape) }) { first, _ in first }
        let listed = Dictionary(layout.entries.map { ($0.name, $0.shape) }) { first, _ in first }
        XCTAssertEqual(allocated, listed, name, line: line)
        XCTAssertEqual(parameters.count, layout.entries.count, "\(name): a name twice", line: line)
        XCTAssertFalse(parameters.isEmpty, name, line: line)
        for entry in layout.entries {
            XCTAssertEqual(layout[entry.name], entry, name, line: line)
            XCTAssertEqual(ModelPart(of: entry.name), entry.part, entry.name, line: line)
        }
    }

    /// What a run trains and what it needs of a teacher, for every projection and for other sizes.
    func testObjectives() throws {
        let two = [AlignedPair(studentBlock: 1, teacherBlock: 0), AlignedPair(studentBlock: 2, teacherBlock: 1)]
        var deeper = ModelConfiguration.small(teacherWidth: nil)
        deeper.decoder = DecoderConfiguration(width: 8, depth: 3, heads: 1)
        let configurations: [(name: String, ModelConfiguration)] = [
            ("linear", .small()), ("mlp", .small(pairs: two, projection: .mlp)), ("two", .small(pairs: two)),
            ("raw", .small(teacherWidth: 12, pairs: two, projection: .none)),
            ("grey", .small(channels: 1, imageHeight: 8, patchSize: 2)), ("pre-training", deeper),
        ]
        for (name, configuration) in configurations {
            for training in [true, false] {
                // A model that is not trained has neither teacher nor projection heads.
                var configuration = configuration
                if !training {
                    configuration.teacher = nil
                    configuration.alignment.pairs = []
                }
                let observed = try ObservedModel(configuration, batch: 2, plan: MemoryPlan(), training: training)
                assertSame(observed.parameters, ModelLayout(configuration), name)
                guard let teacher = configuration.teacher, let last = configuration.lastTeacherBlock else {
                    XCTAssertNil(observed.teacherParameters)
                    continue
                }
                XCTAssertLessThan(last + 1, teacher.depth, "no block is left out")
                assertSame(
                    observed.teacherParameters, .encoder(teacher, blockCount: last + 1, norms: []), "\(name), teacher")
            }
        }
    }

    /// What an encoder alone needs, to each place where features are taken.
    func testFeatureExtractors() throws {
        let sizes = ModelConfiguration.small(channels: 1).student
        let places: [(FeaturePlace, ModelLayout)] = [
            (.norm, .encoder(sizes)), (.meanNorm, .encoder(sizes, norms: ["fc_norm"])),
            (.block(0), .encoder(sizes, blockCount: 1, norms: [])), (.block(2), .encoder(sizes, norms: [])),
        ]
        for (place, layout) in places {
            let extractor = try FeatureExtractor(sizes, at: place, pool: .mean, batch: 1, plan: MemoryPlan())
            assertSame(extractor.parameters, layout, "\(place)")
        }
    }

    /// Every part has tensors of its own, and its elements are counted once.
    func testParts() throws {
        let configuration = ModelConfiguration.small()
        let (student, decoder) = (configuration.student, configuration.decoder)
        let whole = ModelLayout(configuration) + .classHead(width: student.width, classes: 7)
        for part in ModelPart.allCases { XCTAssertGreaterThan(whole.count { $0 == part }, 0, "\(part)") }
        XCTAssertEqual(ModelPart.allCases.reduce(0) { sum, part in sum + whole.count { $0 == part } }, whole.count())
        XCTAssertEqual(whole.count(where: \.isEncoder), ModelLayout.encoder(student).count())
        XCTAssertEqual(whole.count { $0 == .decoder }, ModelLayout.decoder(decoder, of: student).count())
        XCTAssertEqual(whole.count { $0 == .projectionHeads }, (12 + 1) * 20)
        XCTAssertEqual(whole.count { $0 == .classHead }, (12 + 1) * 7)
        let probe = ModelLayout.linearProbe(width: 12, classes: 7)
        XCTAssertEqual(probe.count { $0 == .classHead }, 2 * 12 + (12 + 1) * 7)
        for name in ["optimizer.first_moment.norm.weight", "normal.weight", "decoderx", "header.weight", ""] {
            XCTAssertNil(ModelPart(of: name), name)
        }
        XCTAssertNil(whole["blocks.3.norm1.weight"])
    }
}
