import Models
import Tensors
import TestSupport
import XCTest

// Letters: R rows (two images of one class token and six kept patches), D width of the features that are compared.

/// The alignment loss where its formula has an edge: features shorter than the floor of their norm, and features that
/// are equal.
final class AlignmentLossTests: XCTestCase {
    private let rows = 2 * (1 + 6)
    private let lastBias = "blocks.1.mlp.fc2.bias"
    private let head = "aligned_feature_projection_heads.0"

    /// A model after one step, all of whose weights are zero but those given. Every row of a feature is then the last
    /// bias on its way, to the bit, and the gradients of encoder and heads are the alignment loss's alone.
    private func stepOfZeros(
        _ configuration: ModelConfiguration, student: [String: [Float]], teacher: [Float]
    ) throws -> RandomModel {
        let model = try RandomModel(configuration, batch: 2, seed: 81)
        func fill(_ parameters: Parameters, _ given: [String: [Float]]) {
            parameters.fill { parameter in
                let count = parameter.weight.count
                let values = given[parameter.name] ?? [Float](repeating: 0, count: count)
                XCTAssertEqual(values.count, count, parameter.name)
                parameter.weight.elements.baseAddress!.update(from: values, count: count)
            }
        }
        fill(model.parameters, student)
        fill(model.observed.teacherParameters!, [lastBias: teacher])
        model.step()
        XCTAssertEqual(model.observed.alignments[0].teacherFeature.values, (0..<rows).flatMap { _ in teacher })
        return model
    }

    /// Loss and gradient, and the magnitudes of what each adds up.
    private struct Reference {
        var loss = 0.0
        var lossMagnitude = 0.0
        var gradient: [Double] = []
        var gradientMagnitude: [Double] = []

        /// For rows that are all P(s) = `student` and t = `teacher`, by `student`: PyTorch's of normalize(eps=1e-12),
        /// which below the floor is a mere product with 1e12.
        init(_ student: [Float], _ teacher: [Float], _ distance: AlignmentDistance) {
            func norm(_ row: [Float]) -> Double { row.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot() }
            let width = Double(student.count)
            let inverse = 1 / max(norm(student), 1e-12)
            let teacherInverse = 1 / max(norm(teacher), 1e-12)
            let isFloored = norm(student) < 1e-12
            let unit = student.map { Double($0) * inverse }
            var slopes: [Double] = []
            var most: [Double] = []
            for (own, value) in zip(unit, teacher) {
                let their = Double(value) * teacherInverse
                let difference = own - their
                let magnitude = own.magnitude + their.magnitude
                switch distance {
                case .l1:
                    let sign: Double = difference > 0 ? 1 : difference < 0 ? -1 : 0
                    loss += difference.magnitude / width
                    lossMagnitude += magnitude / width
                    slopes.append(sign / width)
                    most.append(1 / width)
                case .l2:
                    loss += difference * difference / width
                    lossMagnitude += magnitude * magnitude / width
                    slopes.append(2 * difference / width)
                    most.append(2 * magnitude / width)
                }
            }
            let along = isFloored ? 0 : zip(slopes, unit).reduce(0.0) { $0 + $1.0 * $1.1 }
            let alongMagnitude = isFloored ? 0 : zip(most, unit).reduce(0.0) { $0 + $1.0 * $1.1.magnitude }
            gradient = zip(slopes, unit).map { ($0 - $1 * along) * inverse }
            gradientMagnitude = zip(most, unit).map { ($0 + $1.magnitude * alongMagnitude) * inverse }
        }
    }

    /// Features of zeros, and ones shorter than 1e-12, on either side: everything stays finite, and loss and gradient
    /// are PyTorch's.
    ///
    /// A value on the sphere has three roundings (squares, inverse norm, product), a difference one more. Of the loss:
    /// four, which a square counts twice, and one for the square, the row's mean and the mean of rows: 11. Of a
    /// gradient: six for a slope, ten for a summand of what is along ŝ, fifteen for that times ŝ, sixteen for what is
    /// left, nineteen with the inverse norm; R - 1 for the sum of rows, one for the expected value: 33. Each is a share
    /// of 2⁻²⁴ at most of the magnitudes that are added up; one more is allowed for their products. No difference is
    /// near L1's kink but where both sides are zero.
    func testFeaturesBelowTheFloorOfTheirNorm() throws {
        let zeros = [Float](repeating: 0, count: 20)
        let own = (0..<20).map { Float(2 * $0 - 17) / 16 }
        let their = (0..<20).map { Float(3 + $0) / ($0 % 2 == 0 ? 8 : -8) }
        let cases: [(name: String, student: [Float], teacher: [Float])] = [
            ("zeros", zeros, their), ("short", own.map { $0 * 1e-13 }, their), ("the teacher's zeros", own, zeros),
            ("the teacher's short", own, their.map { $0 * 1e-13 }), ("zeros on both sides", zeros, zeros),
            ("no floor", own, their),
        ]
        for distance in [AlignmentDistance.l1, .l2] {
            for (name, student, teacher) in cases {
                let label = "\(distance), \(name)"
                // The matrix has zeros to multiply, and takes gradients of up to 1e11 back into the student.
                let matrix = [Float](repeating: 0.25, count: 20 * 12)
                let model = try stepOfZeros(
                    .small(distance: distance), student: [head + ".weight": matrix, head + ".bias": student],
                    teacher: teacher)
                let gradients = model.gradients()
                for (parameter, values) in gradients {
                    XCTAssertTrue(values.allSatisfy(\.isFinite), "\(label): \(parameter)")
                }

                let expected = Reference(student, teacher, distance)
                XCTAssertEqual(
                    Double(model.observed.losses.alignments[0]), expected.loss,
                    accuracy: 12 * 0x1p-24 * expected.lossMagnitude, label)
                var comparison = TensorComparison()
                comparison.compare(
                    label, expected: expected.gradient.map { Float($0) },
                    found: try XCTUnwrap(gradients[head + ".bias"])
                ) { 34 * 0x1p-24 * expected.gradientMagnitude[$0] }
                XCTAssertEqual(comparison.failures, [])
            }
        }
    }

    /// |x| has slope 0 at 0, as PyTorch's sign has: a raw feature that is exactly the teacher's is not pulled, beside
    /// columns that are, by 1/D up or down. Those are sums of R equal shares: one rounding for the share, R - 1 for the
    /// sum.
    func testL1HasNoSlopeWhereRawFeaturesAreEqual() throws {
        let apart: [Float] = [0, 0.5, -0.25]
        let slopes: [Double] = [0, 1.0 / 12, -1.0 / 12]
        let teacher = (0..<12).map { Float(2 * $0 - 11) / 8 }
        let student = (0..<12).map { teacher[$0] + apart[$0 % 3] }
        let model = try stepOfZeros(
            .small(teacherWidth: 12, distance: .l1, projection: .none), student: [lastBias: student], teacher: teacher)
        // Eighths and quarters: exact.
        XCTAssertEqual(model.observed.losses.alignments[0], 0.25)
        let gradient = try XCTUnwrap(model.gradients()[lastBias])
        for (column, value) in gradient.enumerated() {
            let slope = slopes[column % 3]
            XCTAssertEqual(Double(value), slope, accuracy: Double(rows) * 0x1p-24 * slope.magnitude, "column \(column)")
        }
    }

    /// The same on the unit sphere: a projection that meets the teacher to the bit stays where it is.
    func testL1HasNoSlopeWhereProjectedFeaturesAreEqual() throws {
        let feature = (0..<20).map { Float(2 * $0 - 17) / 16 }
        let model = try stepOfZeros(.small(distance: .l1), student: [head + ".bias": feature], teacher: feature)
        XCTAssertEqual(model.observed.losses.alignments[0], 0)
        XCTAssertEqual(model.gradients()[head + ".bias"], [Float](repeating: 0, count: 20))
    }
}
