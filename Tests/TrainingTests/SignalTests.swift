import Foundation
import Training
import XCTest

final class SignalTests: XCTestCase {
    func testTheFirstSignalIsRemembered() {
        // A background job's tests are started with SIGINT ignored, which would stay so.
        restore()
        Signals.install()
        XCTAssertNil(Signals.requested)
        for (number, name) in Self.names {
            Signals.reset()
            raise(number)
            XCTAssertEqual(Signals.requested, name)
            raise(SIGTERM)
            XCTAssertEqual(Signals.requested, name)
        }
        Signals.reset()
        restore()
    }

    func testAClosedPipeIsAnErrorOfTheWrite() {
        Signals.install()
        var ends: [Int32] = [0, 0]
        XCTAssertEqual(pipe(&ends), 0)
        close(ends[0])
        XCTAssertEqual(write(ends[1], "x", 1), -1)
        XCTAssertEqual(errno, EPIPE)
        close(ends[1])
        restore()
    }

    private static let names = [
        (SIGTERM, "SIGTERM"), (SIGINT, "SIGINT"), (SIGUSR1, "SIGUSR1"), (SIGHUP, "SIGHUP"), (SIGUSR2, "SIGUSR2"),
        (SIGALRM, "SIGALRM"), (SIGXCPU, "SIGXCPU"), (SIGPWR, "SIGPWR"),
    ]

    private func restore() {
        for number in Self.names.map(\.0) + [SIGPIPE, SIGXFSZ] { signal(number, SIG_DFL) }
    }

    /// What the child process of `testASecondInterruptQuitsAtOnce` does.
    private func waitForInterrupts() -> Never {
        restore()
        Signals.install()
        print("ready")
        fflush(stdout)
        while Signals.requested == nil { usleep(1000) }
        print("first")
        fflush(stdout)
        sleep(30)
        exit(99)
    }

    func testASecondInterruptQuitsAtOnce() throws {
        if ProcessInfo.processInfo.environment["DMAE_SIGNAL_CHILD"] != nil { waitForInterrupts() }
        let child = Process()
        child.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        child.arguments = ["TrainingTests.SignalTests/testASecondInterruptQuitsAtOnce"]
        child.environment = ProcessInfo.processInfo.environment.merging(["DMAE_SIGNAL_CHILD": "1"]) { $1 }
        let output = Pipe()
        child.standardOutput = output
        try child.run()
        func wait(for word: String) {
            var text = ""
            while !text.contains(word) {
                let data = output.fileHandleForReading.availableData
                if data.isEmpty { return XCTFail("the child ended before it said \(word): \(text)") }
                text += String(decoding: data, as: UTF8.self)
            }
        }
        wait(for: "ready")
        kill(child.processIdentifier, SIGINT)
        wait(for: "first")
        kill(child.processIdentifier, SIGINT)
        child.waitUntilExit()
        XCTAssertEqual(child.terminationReason, .exit)
        XCTAssertEqual(child.terminationStatus, 130)
    }
}
