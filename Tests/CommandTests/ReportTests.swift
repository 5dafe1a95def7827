import Foundation
import TestSupport
import XCTest

/// `dmae report`.
final class ReportTests: XCTestCase {
    private let folder = TemporaryFolder()

    /// The lines of text on a page, as an independent parser reads them; it checks the page's form.
    private func page(_ path: String, line: UInt = #line) throws -> [String] {
        let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("PageCheck.py")
        let result = Command.run([script.path, path], executable: "/usr/bin/python3")
        XCTAssertEqual(result.end, .exited(0), result.description, line: line)
        return result.output.components(separatedBy: "\n")
    }

    /// The value beside a name in the summary.
    private func value(_ name: String, _ lines: [String]) -> String? {
        let summary = lines.drop { $0 != "Summary" }
        return summary.firstIndex(of: name).map { lines[$0 + 1] }
    }

    private func line(_ step: Int, loss: Double, elapsed: Double) -> String {
        "{\"step\":\(step),\"epoch\":\(Double(step) / 50),\"loss\":\(loss),\"loss_reconstruction\":\(loss / 2),"
            + "\"loss_align\":[\(loss / 4),\(loss / 8)],\"learning_rate\":\(1e-4 * Double(step)),\"gradient_norm\":\(1 / loss),"
            + "\"images_per_second\":\(100 + loss),\"time\":\"2026-01-31T12:00:00Z\",\"elapsed_seconds\":\(elapsed)}"
    }

    private func write(_ name: String, _ lines: some Sequence<String>, configuration: String? = nil) throws {
        try FileManager.default.createDirectory(atPath: folder.file(name), withIntermediateDirectories: true)
        folder.write(Array(lines.joined(separator: "\n").utf8) + [0x0A], "\(name)/log.jsonl")
        if let configuration { folder.write(configuration.utf8, "\(name)/configuration.json") }
    }

    /// The page of a whole run: its numbers are the log's, and its pictures those of its validation images.
    func testPageOfARun() throws {
        let run = folder.file("run"), output = folder.file("report.html")
        assertRuns(
            TinyRun.pretrain(run, epochs: 12, ["--quiet", "--val", TinyRun.data, "--checkpoint-every", "4"]))
        let result = assertRuns(["report", run, "--output", output])
        XCTAssertEqual(result.output, "")
        let lines = try page(output), losses = try TinyRun.losses(run)
        XCTAssertEqual(value("state", lines), "finished")
        XCTAssertEqual(value("method", lines), "pretrain")
        XCTAssertEqual(value("training images", lines), "9")
        XCTAssertEqual(value("steps", lines), "\(losses.count) of \(losses.count)")
        XCTAssertEqual(value("loss, last step", lines), String(format: "%.4f", losses.last!))
        let lowest = losses.min()!
        XCTAssertEqual(
            value("loss, lowest", lines),
            String(format: "%.4f", lowest) + " (step \(losses.firstIndex(of: lowest)! + 1))")
        for word in [
            "Loss", "Reconstruction", "Learning rate", "Gradient norm", "Images per second", "validation loss",
        ] {
            XCTAssertTrue(lines.contains(word), word)
        }
        XCTAssertTrue(
            lines.contains("all \(losses.count) steps are done")
                || lines.contains { $0.contains("all \(losses.count) steps are done") })
        // The settings of the optimiser that was used, and the files of the run itself.
        XCTAssertTrue(lines.contains("optimizer.beta1"))
        for word in ["optimizer.momentum", "optimizer.trust", "lock"] { XCTAssertFalse(lines.contains(word), word) }
        XCTAssertTrue(lines.contains("log.jsonl"))
        let html = try String(contentsOfFile: output, encoding: .utf8)
        let checkpoints = try TinyRun.checkpoints(run).count
        XCTAssertEqual(html.components(separatedBy: "<img ").count - 1, 4 * (2 + checkpoints))
        // The errors are those of `dmae reconstruct`.
        let json = assertRuns([
            "reconstruct", "--weights", run + "/model.safetensors", "--input", TinyRun.data, "--count", "4", "--output",
            folder.file("grid.png"), "--json", "--mask-ratio", "0.75",
        ]).output
        let pictures = try XCTUnwrap(
            (JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any])?["pictures"] as? [[String: Any]])
        for picture in pictures {
            let error = String(format: "error %.4f", try XCTUnwrap(picture["mean_squared_error"] as? Double))
            XCTAssertTrue(lines.contains(error), "\(error) in \(lines.filter { $0.hasPrefix("error ") })")
        }
        // Also where the run predicted a share of the removed patches only.
        let part = folder.file("part"), page = folder.file("part.html")
        assertRuns(TinyRun.pretrain(part, epochs: 3, ["--quiet", "--val", TinyRun.data, "--predict-ratio", "0.3"]))
        assertRuns(["report", part, "--output", page, "--count", "9", "--quiet"])
        let errors = assertRuns([
            "reconstruct", "--weights", part + "/model.safetensors", "--input", TinyRun.data, "--output",
            folder.file("grid.png"), "--json", "--mask-ratio", "0.75",
        ]).output
        let all = try XCTUnwrap(
            (JSONSerialization.jsonObject(with: Data(errors.utf8)) as? [String: Any])?["pictures"] as? [[String: Any]])
        XCTAssertEqual(all.count, 9)
        let shown = try self.page(page)
        for picture in all {
            let error = String(format: "error %.4f", try XCTUnwrap(picture["mean_squared_error"] as? Double))
            XCTAssertTrue(shown.contains(error), "\(error) in \(shown.filter { $0.hasPrefix("error ") })")
        }
        // A report is replaced by a newer one.
        assertRuns(["report", run, "--output", output, "--count", "0"])
        XCTAssertFalse(try String(contentsOfFile: output, encoding: .utf8).contains("<img "))
        XCTAssertTrue(folder.names().allSatisfy { !$0.contains(".part") })
    }

    /// Every line of a log is a row, with the log's numbers.
    func testTable() throws {
        let losses = (1...50).map { 2 / Double($0) }
        let evaluation =
            #"{"step":20,"epoch":0.4,"val_top1":0.25,"time":"2026-01-31T12:00:00Z","elapsed_seconds":19.5}"#
        var lines = losses.enumerated().map { line($0 + 1, loss: $1, elapsed: Double($0)) }
        lines.insert(evaluation, at: 20)
        try write("a, b", lines)
        let rows = assertRuns(["report", folder.file("a, b"), "--csv"]).output.components(separatedBy: "\n")
        XCTAssertEqual(
            rows[0],
            "run,step,epoch,loss,loss_reconstruction,loss_align_0,loss_align_1,learning_rate,gradient_norm,"
                + "images_per_second,val_top1,time,training_seconds")
        XCTAssertEqual(rows.count, 1 + 51 + 1)
        XCTAssertEqual(rows[20], "\"a, b\",20,0.4,0.1,0.05,0.025,0.0125,0.002,10,100.1,,2026-01-31T12:00:00Z,19")
        XCTAssertEqual(rows[21], "\"a, b\",20,0.4,,,,,,,,0.25,2026-01-31T12:00:00Z,19.5")
        XCTAssertEqual(rows[1...20].map { Double($0.components(separatedBy: ",")[4]) }, losses[..<20].map { $0 })
    }

    /// What trained the runs is on the page, where a run says it.
    func testProcesses() throws {
        let old = folder.file("old"), run = folder.file("run")
        for name in ["old", "run"] { try write(name, (1...20).map { line($0, loss: 1 / Double($0), elapsed: 1) }) }
        func start(_ number: Int, step: Int, threads: Int) -> String {
            #"{"build":"release","command":["dmae","distill","--data","it's <here>"],"commit":"0123456789ab","host":"h\#(number)","#
                + #""instruction_set":"avx2","memory_limit":"this machine's memory","memory_limit_bytes":8000000000,"#
                + #""processor":"A Processor","start":\#(number),"step":\#(step),"threads":\#(threads),"#
                + #""time":"2026-01-31T12:00:00Z","version":"0.1.0","workers":3}"#
        }
        func progress(_ number: Int, step: Int, bytes: Int) -> String {
            #"{"peak_resident_bytes":\#(bytes),"start":\#(number),"state":"running","step":\#(step),"time":"2026-01-31T12:00:00Z"}"#
        }
        let lines = [
            start(1, step: 0, threads: 2), progress(1, step: 5, bytes: 1_000_000_000),
            progress(1, step: 10, bytes: 3_000_000_000), "{damaged", start(2, step: 10, threads: 4),
            progress(2, step: 20, bytes: 2_000_000_000), start(3, step: 20, threads: 4),
        ]
        folder.write(lines.joined(separator: "\n").utf8, "run/starts.jsonl")
        let output = folder.file("processes.html")
        assertRuns(["report", run, "--output", output])
        let text = try page(output)
        XCTAssertEqual(value("memory, peak", text), "3.00 GB")
        XCTAssertEqual(value("memory limit", text), "8.00 GB, this machine's memory")
        XCTAssertEqual(
            value("machine", text), "A Processor, avx2, 2 threads; then A Processor, avx2, 4 threads")
        XCTAssertEqual(value("version of dmae", text), "0.1.0, commit 0123456789ab, release build")
        let place = try XCTUnwrap(text.firstIndex(of: "3 processes"))
        let rows = [
            ("1", "0–10", "2 + 3", "3.00 GB", "h1"), ("2", "10–20", "4 + 3", "2.00 GB", "h2"),
            ("3", "20–?", "4 + 3", "–", "h3"),
        ].flatMap { [$0.0, "2026-01-31 12:00:00 UTC", $0.1, $0.2, $0.3, $0.4] }
        let words = ["dmae distill", "--data", #"'it'\''s <here>'"#], commands = words + words + words
        XCTAssertEqual(
            Array(text[(place + 1)...].prefix(5 + rows.count + commands.count)),
            ["began", "steps", "threads", "peak memory", "host"] + rows + commands)
        XCTAssertTrue(
            assertRuns(["report", run, "--terminal"], environment: ["COLUMNS": "400"]).output.contains(
                "A Processor, avx2, 4 threads; at most 3.00 GB of memory"))
        // Long commands are shortened, and nothing in the file does harm.
        let many = (0..<5000).map { "\"</code><script>\($0)\"" }.joined(separator: ",")
        let hostile = lines.map {
            $0.replacingOccurrences(of: "\"it's <here>\"", with: many)
                .replacingOccurrences(of: "A Processor", with: "\\u001b[31m<b>")
                .replacingOccurrences(of: "\"step\":10", with: "\"step\":-9223372036854775808")
                .replacingOccurrences(of: "3000000000", with: "9223372036854775807")
        }
        folder.write((hostile + ["[[[", "{}", "\u{0}"]).joined(separator: "\n").utf8, "run/starts.jsonl")
        assertRuns(["report", run, "--output", output])
        XCTAssertLessThan(try TinyRun.bytes(output).count, 200_000)
        XCTAssertTrue(try page(output).contains { $0.contains("… (4,8") && $0.hasSuffix(" more words)") })
        XCTAssertFalse(assertRuns(["report", run, "--terminal"]).output.contains("\u{1B}"))
        folder.write(lines.joined(separator: "\n").utf8, "run/starts.jsonl")
        // An earlier version wrote no such file.
        assertRuns(["report", old, run, "--output", output])
        XCTAssertTrue(try page(output).contains("run: 3 processes"))
        assertRuns(["report", old, "--output", output])
        XCTAssertFalse(try page(output).contains("Processes"))
    }

    /// A page of 100,000 steps is below 2 MB, and holds the spike of a single step.
    func testLongRuns() throws {
        for name in ["long", "longer"] {
            let lines = (1...100_000).lazy.map { step -> String in
                let noise = Double((step &* 2_654_435_761) % 1000) / 1000
                return self.line(
                    step, loss: step == 54_321 ? 77.5 : 0.3 + noise + 3000 / Double(step + 1000),
                    elapsed: Double(step) / 8)
            }
            try write(name, lines)
        }
        let output = folder.file("long.html")
        assertRuns(["report", folder.file("long"), "--output", output])
        XCTAssertLessThan(try TinyRun.bytes(output).count, 2_000_000)
        let lines = try page(output)
        XCTAssertTrue(lines.contains { $0.contains("beyond the frame") && $0.contains("77.50") }, "the spike")
        XCTAssertTrue(lines.contains { $0.contains("the mean of up to 334 steps") })
        assertRuns(["report", folder.file("long"), folder.file("longer"), "--output", output])
        XCTAssertLessThan(try TinyRun.bytes(output).count, 2_000_000)
    }

    /// Several runs have names that tell them apart, and a table of the settings that differ.
    func testSeveralRuns() throws {
        for (index, rate) in ["0.5", "0.25", "0.125"].enumerated() {
            try write(
                "\(index)/run", (1...30).map { line($0, loss: Double(1 + index) / Double($0), elapsed: Double($0)) },
                configuration:
                    "{\"epochs\":10,\"baseLearningRate\":\(rate),\"model\":{\"width\":\(8 << index)},\"seed\":0}")
        }
        let output = folder.file("x.html")
        assertRuns(["report"] + (0..<3).map { folder.file("\($0)/run/") } + ["--output", output])
        let lines = try page(output)
        let place = try XCTUnwrap(lines.firstIndex(of: "What differs"))
        XCTAssertEqual(
            Array(lines[(place + 1)...(place + 12)]),
            [
                "setting", "0/run", "1/run", "2/run", "baseLearningRate", "0.5", "0.25", "0.125", "model.width", "8",
                "16", "32",
            ])
        XCTAssertTrue(lines.contains("epochs"))
        XCTAssertTrue(lines.contains("All 4 settings of configuration.json"))
    }

    /// What cannot be read is left out and counted; names of any kind do no harm.
    func testDamagedLogAndNames() throws {
        let name = "<img src=x onerror=alert(1)>&\"'\u{1B}[31m\u{202E}"
        let lines =
            (1...20).map { line($0, loss: 1 / Double($0), elapsed: 1) } + ["{\"step\":21,", "\u{0}\u{0}", "<script>"]
        try write(name, lines, configuration: "{\"<b>\":\"</script>\u{7F}\",\"list\":[{\"a\":1},2]}")
        let output = folder.file("damaged.html")
        let result = assertRuns(["report", folder.file(name), "--output", output])
        XCTAssertTrue(result.errors.contains("3 lines of log.jsonl cannot be read"), result.errors)
        XCTAssertFalse(result.errors.contains("\u{1B}"))
        let text = try page(output)
        XCTAssertTrue(text.contains { $0.contains("3 lines of log.jsonl cannot be read and are left out.") })
        XCTAssertTrue(text.contains("</script>\\u{7F}"), "\(text.filter { $0.contains("script") })")
        XCTAssertTrue(text.contains("<img src=x onerror=alert(1)>&\"'\\u{1B}[31m\\u{202E}"))
        let drawn = assertRuns(["report", folder.file(name), "--terminal"]).output
        XCTAssertFalse(drawn.contains("\u{1B}"))
        // Neither a step nor a configuration: a page all the same.
        try write("empty", [])
        assertRuns(["report", folder.file("empty"), "--output", output])
        XCTAssertTrue(try page(output).contains("The log holds no step yet."))
        XCTAssertTrue(
            assertRuns(["report", folder.file("empty"), "--terminal"]).output.contains("no loss in the log yet"))
    }

    /// How a run stands.
    func testStates() throws {
        let output = folder.file("state.html")
        try write("run", (1...5).map { line($0, loss: 1, elapsed: 1) })
        for (status, word, reason) in [
            ("running", "killed", "its process is gone, and left a checkpoint of step 3; `dmae resume` continues"),
            ("resumable", "stopped", "stopped by SIGTERM; `dmae resume` continues"),
            ("failed", "failed", "stopped by SIGTERM"),
            ("finished", "finished", "stopped by SIGTERM"),
        ] {
            folder.write(
                "{\"reason\":\"stopped by SIGTERM\",\"state\":\"\(status)\",\"step\":3}\n".utf8, "run/status.json")
            folder.write("1\n".utf8, "run/lock")
            assertRuns(["report", folder.file("run"), "--output", output, "--quiet"])
            let lines = try page(output)
            XCTAssertEqual(value("state", lines), word)
            XCTAssertTrue(lines.contains { $0.hasSuffix(reason) }, "\(lines.prefix(8))")
        }
        // Its process lives: it holds the lock.
        folder.write(
            "{\"reason\":\"process 1 is training\",\"state\":\"running\",\"step\":3}\n".utf8, "run/status.json")
        let descriptor = open(folder.file("run/lock"), O_RDWR)
        XCTAssertEqual(flock(descriptor, LOCK_EX), 0)
        assertRuns(["report", folder.file("run"), "--output", output, "--quiet"])
        XCTAssertEqual(value("state", try page(output)), "running")
        // --follow writes again until it ends.
        let command = Command(["report", folder.file("run"), "--output", output, "--follow", "--every", "1", "--quiet"])
        func text() -> String { (try? String(contentsOfFile: output, encoding: .utf8)) ?? "" }
        let limit = Date(timeIntervalSinceNow: 60)
        while !text().contains("http-equiv=\"refresh\" content=\"1\""), Date() < limit { usleep(10_000) }
        try write("run", (1...6).map { line($0, loss: 1, elapsed: 1) })
        while !text().contains("step 6:"), Date() < limit { usleep(10_000) }
        XCTAssertTrue(command.isRunning)
        close(descriptor)
        folder.write(
            "{\"reason\":\"all 6 steps are done\",\"state\":\"finished\",\"step\":6}\n".utf8, "run/status.json")
        XCTAssertEqual(command.wait(seconds: 60).end, .exited(0))
        XCTAssertFalse(text().contains("http-equiv"))
        XCTAssertTrue(text().contains("all 6 steps are done"))
    }

    /// Characters as the terminal shows them.
    func testTerminal() throws {
        try write("run", (1...500).map { line($0, loss: 8 / Double($0).squareRoot(), elapsed: 1) })
        func drawn(_ environment: [String: String]) -> String {
            assertRuns(["report", folder.file("run"), "--terminal"], environment: environment).output
        }
        let plain = drawn(["LC_ALL": "C"]), blocks = drawn(["LC_ALL": "C.UTF-8"])
        XCTAssertTrue(plain.unicodeScalars.allSatisfy { $0.isASCII && ($0.value >= 32 || $0 == "\n") }, plain)
        XCTAssertTrue(blocks.contains("█") && blocks.contains("▁") && !blocks.contains("\u{1B}"), blocks)
        XCTAssertTrue(drawn(["LC_ALL": "C.UTF-8", "TERM": "dumb"]).unicodeScalars.allSatisfy(\.isASCII))
        for (columns, width) in [("60", 60), ("120", 120)] {
            for line in drawn(["LC_ALL": "C.UTF-8", "COLUMNS": columns]).split(separator: "\n") {
                XCTAssertLessThan(line.count, width, "\(line)")
            }
        }
        // The columns fall as the loss does: each row's bar is a beginning of the one below.
        let rows = blocks.split(separator: "\n").filter { $0.contains("┤") || $0.contains("│") }
            .map { $0.drop { $0 != "┤" && $0 != "│" }.dropFirst() }
        XCTAssertEqual(rows.count, 12)
        let full = rows.map { $0.count { $0 == "█" } }
        XCTAssertEqual(full, full.sorted())
        XCTAssertTrue(blocks.contains("logarithmic scale"))
        XCTAssertTrue(blocks.contains("loss \(String(format: "%.4f", 8 / 500.0.squareRoot()))"), blocks)
    }

    func testRefusals() throws {
        try write("run", [line(1, loss: 1, elapsed: 1)])
        let run = folder.file("run")
        assertRefused(["report", folder.file("none"), "--csv"], 74, "none", "name the folder of a run")
        assertRefused(["report", folder.path, "--csv"], 64, "is not the folder of a run")
        assertRefused(["report", run + "/log.jsonl", "--csv"], 64, "is a file, not the folder of a run")
        assertRefused(
            ["report", run], 64, "--output report.html writes a page, --terminal draws the loss here, --csv prints")
        // A folder that is none is said before what is wanted; a file may be meant as the output.
        assertRefused(["report", folder.file("none")], 74, "cannot open", "none", "name the folder of a run")
        assertRefused(
            ["report", run, "--csv", folder.file("x.csv")], 64,
            "--csv takes no file: it prints the table, `dmae report \(run) --csv > \(folder.file("x.csv"))` writes one")
        assertRefused(
            ["report", run, folder.file("x.html")], 64,
            "x.html is not the folder of a run: for the page to be written there, say --output \(folder.file("x.html"))"
        )
        assertRefused(["report", run, "--csv", "--terminal"], 64, "exclude each other")
        assertRefused(["report", run, "--csv", "--follow"], 64, "--follow is for a page")
        assertRefused(["report", run, "--output", folder.file("x.pdf")], 64, "end it in .html")
        assertRefused(["report", run, "--output", folder.file("none/x.html")], 74, "none")
        folder.write("<!DOCTYPE html>\n<p>mine".utf8, "mine.html")
        assertRefused(["report", run, "--output", folder.file("mine.html")], 64, "exists and is not a report of dmae")
        XCTAssertEqual(folder.read("mine.html"), Array("<!DOCTYPE html>\n<p>mine".utf8))
    }

    /// A classifier by class: the numbers are those of `dmae evaluate`.
    func testClasses() throws {
        try TinyRun.writeClasses(in: folder)
        assertRuns(TinyRun.pretrain(folder.file("encoder"), epochs: 2, ["--quiet"]))
        assertRuns([
            "finetune", "--weights", folder.file("encoder/model.safetensors"), "--train", folder.file("train"), "--val",
            folder.file("val"), "--output", folder.file("classifier"), "--epochs", "3", "--warmup-epochs", "1",
            "--batch",
            "6", "--effective-batch", "6", "--quiet", "--recipe", "finetune-small-data",
        ])
        let output = folder.file("classes.html")
        assertRuns(["report", folder.file("classifier"), "--output", output])
        XCTAssertTrue(try page(output).contains { $0.contains("--classes --output") })
        assertRuns(["report", folder.file("classifier"), "--output", output, "--classes"])
        let lines = try page(output)
        let json = assertRuns([
            "evaluate", "--weights", folder.file("classifier/best.safetensors"), "--data", folder.file("val"), "--json",
            "--quiet", "--precision", "auto",
        ]).output
        let report = try XCTUnwrap(JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any])
        let top1 = try XCTUnwrap(report["top1"] as? Double)
        let judged = lines.drop { $0 != "weights" }
        let shown = lines[try XCTUnwrap(judged.firstIndex(of: "top-1")) + 1]
        XCTAssertTrue(shown.hasPrefix(String(format: "%.2f %%", 100 * top1)), "\(shown), \(top1)")
        for name in TinyRun.classes { XCTAssertTrue(lines.contains(name)) }
        let wrong = 9 - Int((9 * top1).rounded())
        let html = try String(contentsOfFile: output, encoding: .utf8)
        XCTAssertEqual(html.components(separatedBy: "<img ").count - 1, min(wrong, 12))
    }
}
