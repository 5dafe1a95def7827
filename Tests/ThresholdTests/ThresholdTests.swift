import Thresholds
import XCTest

/// `make perf-check` compares as it says it does. Nothing is timed here.
final class ThresholdTests: XCTestCase {
    private let text = """
        {"allowed_loss": 0.1, "goals": {}, "ratios": {
          "avx2, 2 threads": {"peak": {"gemm a": 0.5}},
          "avx512, 2 threads": {"peak": {"gemm a": 0.9, "gemm b": 0.8, "adamw": 1.25}, "peers": {"step": 1.6}}}}
        """
    private func thresholds() throws -> Thresholds { try Thresholds(json: Array(text.utf8)) }
    private func verdict(_ measured: [String: Double], partial: Bool = false) throws -> Verdict {
        try XCTUnwrap(
            thresholds().verdict(on: measured, machine: "avx512, 2 threads", section: "peak", partial: partial))
    }

    func testPassesWithinTheAllowedLossAndFailsBeyondIt() throws {
        XCTAssertTrue(try verdict(["gemm a": 0.9, "gemm b": 0.8, "adamw": 1.25]).passed)
        XCTAssertTrue(try verdict(["gemm a": 0.811, "gemm b": 0.721, "adamw": 9]).passed)
        let lost = try verdict(["gemm a": 0.809, "gemm b": 0.4, "adamw": 1.25])
        XCTAssertFalse(lost.passed)
        XCTAssertEqual(lost.lost.map(\.name), ["gemm b", "gemm a"], "the worst first")
        XCTAssertEqual(lost.compared, 3)
    }

    func testANumberThatIsNoneIsLost() throws {
        XCTAssertEqual(try verdict(["gemm a": .nan, "gemm b": 0.8, "adamw": 1.25]).lost.map(\.name), ["gemm a"])
    }

    func testARowThatIsGoneFailsUnlessTheMeasurementIsPartial() throws {
        let gone = try verdict(["gemm a": 0.9, "gemm b": 0.8])
        XCTAssertFalse(gone.passed)
        XCTAssertEqual(gone.missing.map(\.name), ["adamw"])
        XCTAssertTrue(try verdict(["gemm a": 0.9], partial: true).passed)
    }

    func testANewRowIsNamedAndDoesNotFail() throws {
        let all = try verdict(["gemm a": 0.9, "gemm b": 0.8, "adamw": 1.25, "gemm c": 0.1])
        XCTAssertEqual(all.new.map(\.name), ["gemm c"])
        XCTAssertTrue(all.passed)
        XCTAssertFalse(try verdict(["gemm c": 0.1], partial: true).passed, "nothing was compared")
    }

    func testEachMachineAndSectionHasItsOwn() throws {
        let thresholds = try thresholds()
        XCTAssertNil(
            thresholds.verdict(on: ["gemm a": 1], machine: "scalar, 2 threads", section: "peak", partial: false))
        XCTAssertNil(thresholds.verdict(on: ["step": 1], machine: "avx2, 2 threads", section: "peers", partial: false))
        XCTAssertEqual(
            thresholds.verdict(on: ["gemm a": 0.5], machine: "avx2, 2 threads", section: "peak", partial: false)?
                .passed, true)
        XCTAssertEqual(
            thresholds.verdict(on: ["step": 1.3], machine: "avx512, 2 threads", section: "peers", partial: false)?
                .passed, false)
    }

    /// A goal holds on every machine, without the allowed loss, and stays when a record is written.
    func testAGoalIsDemandedOfEveryMachine() throws {
        var thresholds = try thresholds()
        thresholds.goals = ["peers": ["step": 1.5, "finetune": 1.4]]
        func verdict(_ measured: [String: Double], _ machine: String) throws -> Verdict {
            try XCTUnwrap(thresholds.verdict(on: measured, machine: machine, section: "peers", partial: true))
        }
        XCTAssertTrue(try verdict(["step": 1.5], "avx512, 2 threads").passed)
        let short = try verdict(["step": 1.49, "other": 0.1], "avx512, 2 threads")
        XCTAssertTrue(short.lost.isEmpty, "1.49 is within the allowed loss of 1.6")
        XCTAssertEqual(short.short.map(\.name), ["step"])
        XCTAssertFalse(short.passed)
        XCTAssertTrue(try verdict(["finetune": 1.4], "scalar, 1 threads").passed, "without a record")
        XCTAssertFalse(try verdict(["finetune": .nan], "scalar, 1 threads").passed)
        XCTAssertNil(thresholds.verdict(on: ["a": 1], machine: "scalar, 1 threads", section: "peers", partial: true))
        XCTAssertTrue(thresholds.record(["step": 9], machine: "b", section: "peers", partial: false))
        XCTAssertEqual(try Thresholds(json: thresholds.json()).goals, ["peers": ["step": 1.5, "finetune": 1.4]])
    }

    func testRecords() throws {
        var thresholds = try thresholds()
        let machine = "avx512, 2 threads"
        XCTAssertTrue(thresholds.record(["gemm a": 0.12345], machine: machine, section: "peak", partial: true))
        XCTAssertEqual(thresholds.ratios[machine]?["peak"], ["gemm a": 0.123, "gemm b": 0.8, "adamw": 1.25])
        XCTAssertTrue(thresholds.record(["gemm a": 0.5], machine: machine, section: "peak", partial: false))
        XCTAssertEqual(thresholds.ratios[machine]?["peak"], ["gemm a": 0.5])
        XCTAssertEqual(thresholds.ratios[machine]?["peers"], ["step": 1.6])
        let before = thresholds
        for worthless in [Double.nan, .infinity, 0, -1] {
            XCTAssertFalse(thresholds.record(["gemm a": worthless], machine: machine, section: "peak", partial: true))
        }
        XCTAssertEqual(thresholds, before)
        XCTAssertEqual(try Thresholds(json: thresholds.json()), thresholds)
    }

    func testRefusesWhatIsNoRecord() {
        for text in [
            "", "{}", #"{"allowed_loss": 1, "goals": {}, "ratios": {}}"#,
            #"{"allowed_loss": -0.1, "goals": {}, "ratios": {}}"#, #"{"allowed_loss": 0.1, "ratios": {}}"#,
            #"{"allowed_loss": 0.1, "goals": {}, "ratios": {"a": {"peak": {"gemm": 0}}}}"#,
            #"{"allowed_loss": 0.1, "goals": {"peak": {"gemm": 0}}, "ratios": {}}"#,
        ] {
            XCTAssertThrowsError(try Thresholds(json: Array(text.utf8)), text)
        }
    }

    /// The record that `make perf-check` reads is of this form and holds every kind of row.
    func testTheRecordInTheRepositoryIsReadable() throws {
        let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent(
            "../../Perf/thresholds.json")
        let recorded = try Thresholds(json: Array(Data(contentsOf: path)))
        XCTAssertEqual(recorded.allowedLoss, 0.1)
        XCTAssertEqual(recorded.goals["peers"]?["finetune f32"], 1.4)
        for machine in ["amx, 2 threads", "avx512bf16, 2 threads", "avx2, 2 threads"] {
            let rows = try XCTUnwrap(recorded.ratios[machine]?["peak"]).keys
            for kind in ["gemm f32", "gemm bf16", "attention", "layernorm"] {
                XCTAssertTrue(rows.contains { $0.hasPrefix(kind) }, "\(machine): \(kind)")
            }
        }
    }
}
