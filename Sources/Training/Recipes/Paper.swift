// DMAE's distillation of a MAE-pre-trained ViT-L into a ViT-B on ImageNet-1k (arXiv 2208.12256, section 4.1).
//
// Expected, as published: after fine-tuning for 100 epochs the student reaches 84.0 % top-1; 83.6 % when distilled at a
// mask ratio of 0.95, and 82.4 % at 0.98. MAE's own ViT-B: 83.6 % after 1600 epochs of pre-training.

import Models

extension Recipe {
    public static let paper = Recipe(
        name: "paper", summary: "ViT-L to ViT-B on ImageNet-1k, as in DMAE's paper", method: .distill,
        student: "vit-base",
        teacher: "vit-large", decoder: "dec512d8", imageSize: 224, maskRatio: 0.75, normalizePixels: false,
        alignment: AlignmentConfiguration(
            pairs: [AlignedPair(studentBlock: 8, teacherBlock: 17)], distance: .l1, projection: .linear, weight: 1),
        effectiveBatch: 4096, batch: 32, baseLearningRate: 1.5e-4, minimumLearningRate: 0, epochs: 100,
        warmupEpochs: 20,
        optimizer: Optimizer(beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.05), cropArea: 0.2...1)
}
