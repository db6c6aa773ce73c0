"""SASRec (Kang & McAuley 2018), the baseline that learns from sequences."""
