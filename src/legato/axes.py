"""Axis letters, value ranges and units used in every signature of the package.

Axes:    B batch   T frames (time)   C channels   H W pixel rows, columns   h w latent cells
         N tokens  D feature width
Frames:  decoded: uint8 or uint16 RGB, `T H W 3`;
         inside the program: float RGB, `T 3 H W`, in [-1, 1]
Luma:    of BT.601, by the shares `LUMA` of the coded RGB
Latents: float, `B T C h w`, already multiplied by the autoencoder's scaling factor
Flow:    float, `T-1 2 H W`, pixels, x (right) then y (down);
         `flow_forward[k]` lives on frame k and points to frame k+1,
         `flow_backward[k]` lives on frame k+1 and points to frame k
Time:    `Fraction` seconds, or whole ticks of a stream's time base; never float
"""

LUMA = (0.299, 0.587, 0.114)
