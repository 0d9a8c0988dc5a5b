"""What Aevon is compared with: other ways of doing the same, with settings of their own."""
