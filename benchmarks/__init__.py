"""What trio_broker is measured with; see README.md here."""
