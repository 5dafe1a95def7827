// The miniature pair of `make distill`: a teacher of six blocks of width 128, a student of four blocks of width 64, on
// 64×64 crops of a few hundred pictures from Debian's openclipart. The expected results stand in
// Fixtures/demo/README.md, next to the commands and logs that gave them.

import Models

extension Recipe {
    public static let demo = Recipe(
        name: "demo", summary: "the miniature student of `make distill`, on a few hundred small pictures",
        method: .distill,
        student: "vit-miniature", teacher: "vit-miniature-teacher", decoder: "dec-miniature", imageSize: 64,
        maskRatio: 0.75,
        normalizePixels: false,
        alignment: AlignmentConfiguration(
            pairs: [AlignedPair(studentBlock: 2, teacherBlock: 4)], distance: .l1, projection: .linear, weight: 1),
        effectiveBatch: 64, batch: 64, baseLearningRate: 8e-3, minimumLearningRate: 0, epochs: 200, warmupEpochs: 20,
        optimizer: Optimizer(beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.05), cropArea: 0.2...1)

    public static let demoTeacher = Recipe(
        name: "demo-teacher", summary: "the miniature teacher that `make distill` learns from", method: .pretrain,
        student: "vit-miniature-teacher", teacher: nil, decoder: "dec-miniature", imageSize: 64, maskRatio: 0.75,
        normalizePixels: false, alignment: AlignmentConfiguration(pairs: []), effectiveBatch: 64, batch: 64,
        baseLearningRate: 4e-3, minimumLearningRate: 0, epochs: 800, warmupEpochs: 40,
        optimizer: Optimizer(beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.05), cropArea: 0.2...1)
}
