// MAE's pre-training of a ViT-B on ImageNet-1k (arXiv 2111.06377, table 8).
//
// Expected, as published: after fine-tuning for 100 epochs the encoder reaches 83.6 % top-1 when pre-trained for 1600
// epochs.

import Models

extension Recipe {
    public static let mae = Recipe(
        name: "mae", summary: "MAE's pre-training on ImageNet-1k, 800 epochs, normalised target pixels",
        method: .pretrain,
        student: "vit-base", teacher: nil, decoder: "dec512d8", imageSize: 224, maskRatio: 0.75, normalizePixels: true,
        alignment: AlignmentConfiguration(pairs: []), effectiveBatch: 4096, batch: 32, baseLearningRate: 1.5e-4,
        minimumLearningRate: 0, epochs: 800, warmupEpochs: 40,
        optimizer: Optimizer(beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.05), cropArea: 0.2...1)
}
