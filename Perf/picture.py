# Writes picture-500x375.jpg: an image of ImageNet's usual size with the spectrum of photographs (amplitude 1/frequency).
# Any version of Pillow; it was made with 12, seed 1.
import numpy
from PIL import Image

height, width = 375, 500
random = numpy.random.default_rng(1)
frequency = numpy.hypot(numpy.fft.fftfreq(height)[:, None], numpy.fft.fftfreq(width)[None, :])
frequency[0, 0] = 1
channels = []
shared = random.standard_normal((height, width))
for _ in range(3):
    noise = numpy.fft.fft2(shared + 0.4 * random.standard_normal((height, width))) / frequency
    noise[0, 0] = 0
    image = numpy.fft.ifft2(noise).real
    channels.append(128 + 55 * image / image.std())
pixels = numpy.clip(numpy.stack(channels, -1), 0, 255).astype(numpy.uint8)
Image.fromarray(pixels).save("picture-500x375.jpg", quality=90)
