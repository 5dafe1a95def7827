import Reporting

/// The logs of runs as comma-separated values (RFC 4180): a line for each line of a log, no value left out or averaged.
package enum RunTable {
    /// Calls `line` with each line of the table, the names of the columns first. A value that is missing is empty.
    package static func write(_ runs: [ReportedRun], _ line: (String) -> Void) {
        var keys: [String] = []
        for run in runs {
            for key in run.log.steps.keys + run.log.evaluations.keys where !keys.contains(key) { keys.append(key) }
        }
        let head = ["run", "step", "epoch"] + keys + ["time", "training_seconds"]
        line(head.map(Format.commaSeparated).joined(separator: ","))
        for run in runs {
            let steps = run.log.steps, evaluations = run.log.evaluations
            var step = 0, evaluation = 0
            // An evaluation follows the step after which it was made.
            while step < steps.count || evaluation < evaluations.count {
                let isStep =
                    evaluation == evaluations.count
                    || step < steps.count && steps.steps[step] <= evaluations.steps[evaluation]
                let rows = isStep ? steps : evaluations, place = isStep ? step : evaluation
                var fields = [
                    Format.commaSeparated(run.name), "\(rows.steps[place])", Format.shortest(rows.epochs[place]),
                ]
                for key in keys {
                    let value = rows[key]?[place] ?? .nan
                    fields.append(value.isFinite ? Format.shortest(value) : "")
                }
                fields.append(Format.commaSeparated(rows.times[place]))
                fields.append(Format.shortest((rows.seconds[place] * 1000).rounded() / 1000))
                line(fields.joined(separator: ","))
                if isStep { step += 1 } else { evaluation += 1 }
            }
        }
    }
}
