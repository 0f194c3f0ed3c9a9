"""What strikes a cluster, one file each; none of them imports another."""
