import Foundation
import Reporting
import Models
import Tensors
import TestSupport
import XCTest

final class ConfigurationTests: XCTestCase {
    /// What does not fit together is refused in a sentence that names it.
    func testValidation() {
        func message(_ change: (inout ModelConfiguration) -> Void) -> String {
            var configuration = ModelConfiguration.small()
            change(&configuration)
            guard let failure = failure({ try configuration.validate() }) else { return "accepted" }
            XCTAssertEqual(failure.code, .usage)
            return failure.message
        }
        XCTAssertEqual(message { _ in }, "accepted")
        let attempts: [(String, (inout ModelConfiguration) -> Void)] = [
            ("student: the depth must be at least 1, not 0", { $0.student.depth = 0 }),
            ("student: the number of heads must be at least 1, not -2", { $0.student.heads = -2 }),
            ("student: the patch size must be at least 1, not 0", { $0.student.patchSize = 0 }),
            ("student: the number of channels must be at least 1, not 0", { $0.student.channels = 0 }),
            ("teacher: the width must be at least 1, not 0", { $0.teacher!.width = 0 }),
            ("teacher: the patch size must be at least 1, not 0", { $0.teacher!.patchSize = 0 }),
            ("student: 5 heads do not divide the width 12", { $0.student.heads = 5 }),
            ("teacher: 3 heads do not divide the width 20", { $0.teacher!.heads = 3 }),
            ("student: the width 18 is not a multiple of 4", { $0.student.width = 18 }),
            ("decoder: the width 18 is not a multiple of 4", { $0.decoder.width = 18 }),
            ("decoder: 7 heads do not divide the width 16", { $0.decoder.heads = 7 }),
            ("decoder: the width must be at least 1, not 0", { $0.decoder.width = 0 }),
            ("student: width 4611686018427387904 is more than the 1048576 supported", { $0.student.width = 1 << 62 }),
            ("student: image size 10000000000 is more than", { $0.student.imageWidth = 10_000_000_000 }),
            ("student: patch size 10000000000 is more than", { $0.student.patchSize = 10_000_000_000 }),
            ("student: 10000 blocks are more than the 4096 supported", { $0.student.depth = 10_000 }),
            ("decoder: width 2097152 is more than", { $0.decoder.width = 1 << 21 }),
            ("student: patches of 5 pixels do not tile an image of 12×16", { $0.student.patchSize = 5 }),
            ("mask ratio 1", { $0.maskRatio = 1 }),
            ("mask ratio -0.1", { $0.maskRatio = -0.1 }),
            ("mask ratio nan", { $0.maskRatio = .nan }),
            ("leaves none of the 12 patches visible", { $0.maskRatio = 0.95 }),
            ("removes none of the 12 patches", { $0.maskRatio = 0 }),
            ("only where there is a teacher", { $0.teacher = nil }),
            ("predict ratio 0 is not a share of the removed patches", { $0.predictRatio = 0 }),
            ("predict ratio 1.1", { $0.predictRatio = 1.1 }),
            ("predict ratio nan", { $0.predictRatio = .nan }),
            ("reconstruction weight must be at least 0 and finite", { $0.reconstructionWeight = -1 }),
            ("reconstruction weight must be at least 0 and finite", { $0.reconstructionWeight = .infinity }),
            (
                "reconstruction weight 0 leaves no loss to minimise without an aligned pair",
                { ($0.teacher, $0.alignment.pairs, $0.reconstructionWeight) = (nil, [], 0) }
            ),
            (
                "predict ratio has no effect with reconstruction weight 0",
                { ($0.predictRatio, $0.reconstructionWeight) = (0.5, 0) }
            ),
            ("reconstruction weight 0 leaves no loss", { ($0.alignment.pairs, $0.reconstructionWeight) = ([], 0) }),
            (
                "teacher mask ratio 0.6 must be at least 0 and at most mask ratio 0.5: the teacher must see the patches",
                { $0.teacherMaskRatio = 0.6 }
            ),
            ("teacher mask ratio -0.1", { $0.teacherMaskRatio = -0.1 }),
            ("teacher mask ratio nan", { $0.teacherMaskRatio = .nan }),
            (
                "teacher mask ratio has no effect without a teacher",
                { ($0.teacher, $0.alignment.pairs, $0.teacherMaskRatio) = (nil, [], 0.2) }
            ),
            (
                "an image of 4×4 has one patch of 4 pixels, too few to remove some and keep some: lower patch size, or "
                    + "raise image size",
                {
                    ($0.student.imageHeight, $0.student.imageWidth) = (4, 4)
                }
            ),
            (
                "normalize pixels divides by the standard deviation of a patch",
                {
                    ($0.student.patchSize, $0.student.channels, $0.normalizePixels) = (1, 1, true)
                }
            ),
            (
                "teacher and student must see the same patches, but the teacher's are of 2 pixels and the student's of "
                    + "4: use patch size 2",
                { $0.teacher!.patchSize = 2 }
            ),
            // Nor do these tile the student's images.
            ("use patch size 5, or another teacher", { $0.teacher!.patchSize = 5 }),
            ("teacher and student must see the same images", { $0.teacher!.channels = 1 }),
            ("align 1:1 is given twice: give it once", { $0.alignment.pairs.append($0.alignment.pairs[0]) }),
            (
                "student block 3 does not exist: the student's blocks are 0 to 2; choose one of them for align",
                { $0.alignment.pairs[0].studentBlock = 3 }
            ),
            ("student block -1 does not exist", { $0.alignment.pairs[0].studentBlock = -1 }),
            (
                "teacher block 3 does not exist: the teacher's blocks are 0 to 2; choose one of them for align",
                { $0.alignment.pairs[0].teacherBlock = 3 }
            ),
            ("the student's is 12 and the teacher's 20", { $0.alignment.projection = .none }),
        ]
        for (words, change) in attempts {
            let message = message(change)
            XCTAssertTrue(message.contains(words), "\(message) says nothing of: \(words)")
        }
    }

    /// Weights of versions before the decoder's share, the reconstruction's weight and the teacher's ratio could be set.
    func testConfigurationsOfEarlierVersions() throws {
        let configuration = ModelConfiguration.small(maskRatio: 0.75, normalizePixels: true)
        var object = try XCTUnwrap(
            JSONSerialization.jsonObject(with: JSONEncoder().encode(configuration)) as? [String: Any])
        for key in ["predictRatio", "reconstructionWeight"] { XCTAssertNotNil(object.removeValue(forKey: key)) }
        XCTAssertNil(object["teacherMaskRatio"])
        let data = try JSONSerialization.data(withJSONObject: object)
        XCTAssertEqual(try JSONDecoder().decode(ModelConfiguration.self, from: data), configuration)
        var other = configuration
        (other.predictRatio, other.reconstructionWeight, other.teacherMaskRatio) = (0.5, 2, 0.25)
        XCTAssertEqual(try JSONDecoder().decode(ModelConfiguration.self, from: JSONEncoder().encode(other)), other)
    }

    /// What nobody can count is refused before memory is planned, and before anything as long as the batch is made.
    func testBatchesBeyondCounting() {
        var wide = ModelConfiguration.small(imageHeight: 1 << 20, imageWidth: 1 << 20, patchSize: 1 << 19)
        wide.decoder.width = 1 << 20
        var fine = ModelConfiguration.small(imageHeight: 1 << 20, imageWidth: 1 << 20, patchSize: 1)
        fine.teacher = nil
        fine.alignment.pairs = []
        for configuration in [wide, fine] {
            XCTAssertTrue(
                failure { _ = try ObservedModel(configuration, batch: 1, plan: MemoryPlan()) }?.message.contains(
                    "more memory than any") == true)
        }
        for batch in [1 << 50, .max] {
            XCTAssertTrue(
                failure { _ = try ObservedModel(.small(), batch: batch, plan: MemoryPlan()) }?.message.contains(
                    "lower batch") == true)
            XCTAssertTrue(
                failure {
                    _ = try FeatureExtractor(
                        ModelConfiguration.small().student, at: .norm, pool: .mean, batch: batch, plan: MemoryPlan())
                }?.message.contains("lower batch") == true)
        }
    }

    /// The sizes of METHOD's table.
    func testPresets() {
        for (name, width, depth, heads, patch) in [
            ("vit-tiny", 192, 12, 3, 16), ("vit-small", 384, 12, 6, 16), ("vit-base", 768, 12, 12, 16),
            ("vit-large", 1024, 24, 16, 16), ("vit-huge", 1280, 32, 16, 14),
        ] {
            let encoder = Preset.encoder(name, imageHeight: 224, imageWidth: 224)
            XCTAssertEqual(
                encoder,
                EncoderConfiguration(
                    width: width, depth: depth, heads: heads, patchSize: patch, imageHeight: 224, imageWidth: 224,
                    channels: 3))
            XCTAssertNoThrow(try encoder?.validate(role: name))
        }
        XCTAssertEqual(Preset.decoder("dec512d8"), DecoderConfiguration(width: 512, depth: 8, heads: 16))
        XCTAssertEqual(Preset.decoder("dec512d2"), DecoderConfiguration(width: 512, depth: 2, heads: 16))
        XCTAssertNil(Preset.encoder("vit-gigantic", imageHeight: 224, imageWidth: 224))
        XCTAssertNil(Preset.decoder("none"))
    }

    /// Standardised with unbiased variance, and a flat patch comes to zero, not to a division by it.
    func testTargetPatchStatistics() {
        let values: [Float] = [1, 2, 3, 4, 5, 6]
        let (mean, deviation) = TargetPatch.statistics(values, 6)
        XCTAssertEqual(mean, 3.5)
        XCTAssertEqual(deviation, Float((3.5 + 1e-6).squareRoot()), accuracy: 1e-7)
        let flat = TargetPatch.statistics([Float](repeating: 0.1, count: 48), 48)
        XCTAssertEqual(flat.mean, 0.1, accuracy: 1e-8)
        XCTAssertEqual(flat.deviation, 1e-3, accuracy: 1e-8)
    }
}
