"""What the figures of the report mean, in one plain sentence each."""

from __future__ import annotations

from html import escape

__all__ = ["glossary"]

MEANINGS = {
    "Dice": "Overlap of prediction and reference: twice the common voxels over the sum of both; 1 is perfect.",
    "mean Dice": "The mean over the structures that a volume holds, then over volumes.",
    "Dice on training volumes": "The same on the volumes learned from; near zero, a structure was not learned at all.",
    "cluster, pseudo-label": "A group of slices that look alike to the VAE; its number stands in for a label.",
    "elbow": "The number of clusters beyond which the slices within a cluster become alike only slowly.",
    "NMI": "Normalised mutual information: how much the cluster tells of the patient or of the position; 0 is nothing, "
    "1 is all.",
    "raw pixels": "As many clusters (Ward's) of the slices' grey values: what the VAE has to beat.",
    "silhouette": "How much nearer a slice is to its own cluster than to the next one, on a sample: 1 is well apart, 0 "
    "between the two, below 0 nearer to the other.",
    "pair pushed apart, negative": "Two slices that contrast tells the encoder to embed far from each other.",
    "false negative": "A pair that is pushed apart although both slices show the same structures.",
    "explained": "The share of what distinguishes slices from their mean that the VAE reconstructs; 1 is all.",
    "KL, active dimensions": "How much the VAE stores of a slice, in nats, and in how many of its dimensions; few of "
    "them in use are a warning.",
    "loss and chance": "The contrastive loss, and what it would be if all embeddings were the same; it should fall "
    "below.",
    "effective rank": "How many directions the embeddings use; 1 is a collapse.",
    "alignment": "Mean squared distance of the embeddings of two views of a slice; lower is better.",
    "uniformity": "How evenly the embeddings spread over the sphere; lower is better, 0 is a collapse.",
    "AUC": "How well a structure's presence is read from the features; 0.5 is guessing, 1 is perfect.",
}


def glossary() -> str:
    """A list of terms."""
    terms = "\n".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in MEANINGS.items())
    return f"<dl>\n{terms}\n</dl>"
