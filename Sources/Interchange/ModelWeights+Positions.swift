import Models
import Reporting
import Weights

/// The rows of a position table, compared with the tokens that MAE's ViT adds it to: the class token, then the patches.
enum PositionRows: Equatable {
    /// One for the class token and one for each patch; or nothing contradicts that.
    case fitting
    /// One for each patch. `isTold`: as the stated image size says, not only because it is the number of a square.
    case withoutClassToken(isTold: Bool)
    /// As many more than fit.
    case additional(Int, isTold: Bool)
    /// No table.
    case none

    /// - Parameters:
    ///   - rows: of the table.
    ///   - told: numbers of patches that the file or config.json states.
    init(_ rows: Int, told: [Int]) {
        func isSquare(_ count: Int) -> Bool {
            let side = Int(Double(max(0, count)).squareRoot().rounded())
            return count > 0 && side * side == count
        }
        if told.contains(rows - 1) {
            self = .fitting
        } else if told.contains(rows) {
            self = .withoutClassToken(isTold: true)
        } else if let count = Self.tokens.first(where: { told.contains(rows - 1 - $0) }) {
            self = .additional(count, isTold: true)
        } else if isSquare(rows - 1) {
            self = .fitting
        } else if isSquare(rows) {
            self = .withoutClassToken(isTold: false)
        } else if isSquare(rows - 2) {
            self = .additional(1, isTold: false)
        } else {
            self = .fitting
        }
    }

    /// Numbers of registers and distillation tokens that models have.
    private static let tokens = [1, 2, 3, 4, 5, 8, 16]
}

extension ModelWeights {
    /// Requires a class token, and a position table with a row for it and for each patch.
    ///
    /// - Parameter patches: those that the user's image size makes; nil without one. A number of rows that only looks
    ///   wrong is right if it fits them.
    /// - Throws: `Failure.badData`.
    public func requirePositions(patches: Int? = nil) throws {
        guard let fault = positionFault else { return }
        let isTold =
            switch positionRows {
            case .withoutClassToken(let isTold), .additional(_, let isTold): isTold
            case .fitting, .none: true
            }
        if !isTold, tensors["cls_token"] != nil, let patches, tensors["pos_embed"]?.shape[1] == 1 + patches { return }
        throw Failure(.badData, "\(path): \(fault); \(ModelFamily.plain)")
    }

    /// What class token and position table have that MAE's ViT has not; nil if they fit.
    public var positionFault: Message? {
        guard tensors["cls_token"] != nil else { return Self.withoutClassToken }
        if let shape = tensors["cls_token"]?.shape, shape.count == 3, shape[1] > 1 {
            return "it holds \(shape[1]) class tokens, but MAE's ViT has one, with one row in its position table"
        }
        switch positionRows {
        case .fitting: return nil
        case .none:
            // MAE's tables are a formula, so a file may leave them out. Those of others are trained.
            guard !hasComputedPositions else { return nil }
            return
                "it holds no position table (pos_embed): its model tells positions by other means, which dmae does not "
                + "compute"
        case .withoutClassToken(let isTold):
            // Beside MAE's decoder a table is MAE's; its patches form no square.
            guard isTold || !hasComputedPositions else { return nil }
            return
                "its position table has no row for the class token, as in FlexiViT and DeiT III: such a model adds "
                + "positions to the patches alone, and dmae to the class token, too"
        case .additional(let count, let isTold):
            guard isTold || !hasComputedPositions else { return nil }
            return
                "its position table has \(Self.counted(count, "row")) too many, beside those for the class token and the "
                + "patches, as models with a distillation token or registers have"
        }
    }

    private static let withoutClassToken: Message =
        "it holds no class token (cls_token), which MAE's ViT has: it is a relative without one, as I-JEPA and SigLIP are"

    static func noClassToken(_ path: String) -> Failure {
        Failure(.badData, "\(path): \(withoutClassToken); \(ModelFamily.plain)")
    }
}
