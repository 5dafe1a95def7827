import ArgumentParser

/// Which model of a file of weights is meant, for the commands that read one.
struct PrefixOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The words before the model's names in the file, if there are several models. Default: chosen and said.",
            valueName: "prefix"))
    var prefix: String?
}

/// The same of a teacher.
struct TeacherPrefixOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The words before the teacher's names in its file, if there are several models. Default: chosen and said.",
            valueName: "prefix"))
    var teacherPrefix: String?
}
