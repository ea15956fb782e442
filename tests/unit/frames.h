/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Frames built by hand, and what each is: for tests/unit/test_packet.c, which gives them to the
 * parser, and tests/verifier/block_frames.c, which gives them to the programs in the kernel.
 */
#ifndef TPROXY_FRAMES_H
#define TPROXY_FRAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "packet.bpf.h"

struct frame {
	const char *name;
	const char *bytes;
	size_t size;
	const char *source, *destination; /* of PACKET_IP */
	const char *final;		  /* destination of its source route, or NULL */
	enum packet_kind kind;
	bool control;
	bool l2; /* VLAN tags, or no IP: nothing that a socket receives */
};

/* clang-format off */
#define MACS  "\x02\0\0\0\0\1" "\x02\0\0\0\0\2"
#define TAG   "\x81\0" "\0\5"
#define TAG_S "\x88\xa8" "\0\6"
#define TAG_O "\x91\0" "\0\7"
#define TYPE4 "\x08\0"
#define TYPE6 "\x86\xdd"

/* vihl: version and header length; frag: two bytes. */
#define IPV4(vihl, frag, ttl, proto, src, dst) \
	vihl "\0" "\0\x40" "\0\1" frag ttl proto "\0\0" src dst
#define IPV6(next, hops, src, dst) "\x60\0\0\0" "\0\x20" next hops src dst

#define BAD4   "\xc0\0\2\1"
#define BAD4T  "192.0.2.1"
#define FINE4  "\xc0\0\2\x4d" /* in the block list and in the allow list */
#define FINE4T "192.0.2.77"
#define GOOD4  "\xc6\x33\x64\1"
#define GOOD4T "198.51.100.1"
#define V6(group, last) "\x20\1\x0d\xb8" group "\0\0" "\0\0\0\0" "\0\0\0" last
#define BAD6   V6("\x0b\xad", "\1")
#define BAD6T  "2001:db8:bad::1"
#define GOOD6  V6("\0\1", "\1")
#define GOOD6T "2001:db8:1::1"
#define BAD_MAPPED6 "\0\0\0\0\0\0\0\0\0\0\xff\xff" BAD4

#define UDP(from, to) from to "\0\x08\0\0" "abcd"
#define DNS    UDP("\0\x35", "\x30\x39")
#define TCP    "\x01\xbb\x30\x39" "\0\0\0\1\0\0\0\1\x50\x10\0\x10\0\0\0\0"
#define ICMP6(type) type "\0\0\0" "\0\0\0\0"
#define P_ICMP "\1"
#define P_IGMP "\2"
#define P_TCP  "\6"
#define P_UDP  "\x11"
#define P_ICMP6 "\x3a"
#define NONE   "\0\0"  /* no fragment */
#define FIRST  "\x20\0" /* more fragments */
#define LATER  "\0\xb9"

/* Extension headers: the next one, and the length where they have one. */
#define HOP(next)       next "\0" "\5\2\0\0\1\0" /* router alert */
#define HOP16(next)     next "\1" "\1\x0c" "\0\0\0\0\0\0\0\0\0\0\0\0"
#define ROUTING(next)   next "\0" "\0\0\0\0\0\0"
#define DEST(next)      next "\0" "\1\4\0\0\0\0"
#define FRAG(next, off) next "\0" off "\0\0\0\1"
#define RH(next, len, type, left) next len type left "\0\0\0\0"
#define AH(next)        next "\4" "\0\0" "\0\0\0\1" "\0\0\0\1" "\0\0\0\0\0\0\0\0\0\0\0\0"

#define SIZED(text) .bytes = (text), .size = sizeof(text) - 1
#define P4(src, dst) .source = (src), .destination = (dst)

static const struct frame frames[] = {
	/* IPv4 */
	{ "TCP", SIZED(MACS TYPE4 IPV4("\x45", NONE, "\x40", P_TCP, BAD4, GOOD4) TCP),
	  P4(BAD4T, GOOD4T) },
	{ "TCP from elsewhere", SIZED(MACS TYPE4 IPV4("\x45", NONE, "\x40", P_TCP, GOOD4, BAD4) TCP),
	  P4(GOOD4T, BAD4T) },
	{ "TCP between others", SIZED(MACS TYPE4 IPV4("\x45", NONE, "\x40", P_TCP, GOOD4, GOOD4) TCP),
	  P4(GOOD4T, GOOD4T) },
	{ "allowed", SIZED(MACS TYPE4 IPV4("\x45", NONE, "\x40", P_TCP, FINE4, GOOD4) TCP),
	  P4(FINE4T, GOOD4T) },
	{ "to allowed", SIZED(MACS TYPE4 IPV4("\x45", NONE, "\x40", P_UDP, GOOD4, FINE4) DNS),
	  P4(GOOD4T, FINE4T) },
	{ "UDP", SIZED(MACS TYPE4 IPV4("\x45", NONE, "\x40", P_UDP, BAD4, GOOD4) DNS),
	  P4(BAD4T, GOOD4T) },
	{ "IP options", SIZED(MACS TYPE4 IPV4("\x47", NONE, "\x40", P_UDP, BAD4, GOOD4)
			      "\x94\4\0\0" "\1\1\1\0" DNS), P4(BAD4T, GOOD4T) },
	{ "all 40 bytes of options", SIZED(MACS TYPE4 IPV4("\x4f", NONE, "\x40", P_UDP, BAD4, GOOD4)
			      "\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1"
			      "\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1" DNS), P4(BAD4T, GOOD4T) },
	/* Source routes of IPv4 */
	{ "LSRR", SIZED(MACS TYPE4 IPV4("\x47", NONE, "\x40", P_UDP, GOOD4, GOOD4)
			"\x83\7\4" BAD4 "\0" DNS), P4(GOOD4T, GOOD4T), .final = BAD4T },
	{ "SSRR behind options", SIZED(MACS TYPE4 IPV4("\x4a", NONE, "\x40", P_UDP, GOOD4, GOOD4)
			"\1\x94\4\0\0" "\x89\x0b\4" GOOD4 BAD4 "\0\0\0\0" DNS),
	  P4(GOOD4T, GOOD4T), .final = BAD4T },
	{ "SSRR at the end of 40 bytes", SIZED(MACS TYPE4 IPV4("\x4f", NONE, "\x40", P_UDP, GOOD4, GOOD4)
			"\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1"
			"\x89\7\4" BAD4 DNS), P4(GOOD4T, GOOD4T), .final = BAD4T },
	{ "route to elsewhere", SIZED(MACS TYPE4 IPV4("\x47", NONE, "\x40", P_UDP, GOOD4, BAD4)
			"\x83\7\4" GOOD4 "\0" DNS), P4(GOOD4T, BAD4T), .final = GOOD4T },
	{ "route to allowed", SIZED(MACS TYPE4 IPV4("\x47", NONE, "\x40", P_UDP, GOOD4, GOOD4)
			"\x83\7\4" FINE4 "\0" DNS), P4(GOOD4T, GOOD4T), .final = FINE4T },
	{ "route used up", SIZED(MACS TYPE4 IPV4("\x47", NONE, "\x40", P_UDP, GOOD4, GOOD4)
			"\x83\7\x08" BAD4 "\0" DNS), P4(GOOD4T, GOOD4T) },
	{ "route behind the end", SIZED(MACS TYPE4 IPV4("\x47", NONE, "\x40", P_UDP, GOOD4, GOOD4)
			"\0\x83\7\4" BAD4 DNS), P4(GOOD4T, GOOD4T) },
	{ "route longer than the header", SIZED(MACS TYPE4 IPV4("\x47", NONE, "\x40", P_UDP, GOOD4, GOOD4)
			"\1\1\x83\7\4" BAD4 DNS), P4(GOOD4T, GOOD4T) },
	{ "recorded route", SIZED(MACS TYPE4 IPV4("\x47", NONE, "\x40", P_UDP, GOOD4, GOOD4)
			"\7\7\4" BAD4 "\0" DNS), P4(GOOD4T, GOOD4T) },
	{ "option of no length", SIZED(MACS TYPE4 IPV4("\x48", NONE, "\x40", P_UDP, GOOD4, GOOD4)
			"\x94\0\0\0" "\x83\7\4" BAD4 "\0" DNS), P4(GOOD4T, GOOD4T) },
	{ "options cut", SIZED(MACS TYPE4 IPV4("\x4f", NONE, "\x40", P_UDP, BAD4, GOOD4)),
	  P4(BAD4T, GOOD4T) },
	{ "first fragment", SIZED(MACS TYPE4 IPV4("\x45", FIRST, "\x40", P_UDP, BAD4, GOOD4) DNS),
	  P4(BAD4T, GOOD4T) },
	{ "later fragment", SIZED(MACS TYPE4 IPV4("\x45", LATER, "\x40", P_UDP, BAD4, GOOD4) "abcd"),
	  P4(BAD4T, GOOD4T) },
	{ "ICMP echo", SIZED(MACS TYPE4 IPV4("\x45", NONE, "\x40", P_ICMP, BAD4, GOOD4)
			     "\x08\0\0\0" "\0\1\0\1"), P4(BAD4T, GOOD4T) },
	{ "ICMP error about a blocked address",
	  SIZED(MACS TYPE4 IPV4("\x45", NONE, "\x40", P_ICMP, GOOD4, GOOD4) "\3\1\0\0" "\0\0\0\0"
		IPV4("\x45", NONE, "\x40", P_UDP, GOOD4, BAD4) DNS), P4(GOOD4T, GOOD4T) },
	{ "ICMP error of a blocked address",
	  SIZED(MACS TYPE4 IPV4("\x45", NONE, "\x40", P_ICMP, BAD4, GOOD4) "\3\1\0\0" "\0\0\0\0"
		IPV4("\x45", NONE, "\x40", P_UDP, GOOD4, GOOD4) DNS), P4(BAD4T, GOOD4T) },
	{ "tunnel of a blocked address",
	  SIZED(MACS TYPE4 IPV4("\x45", NONE, "\x40", "\4", GOOD4, GOOD4)
		IPV4("\x45", NONE, "\x40", P_UDP, BAD4, GOOD4) DNS), P4(GOOD4T, GOOD4T) },
	{ "unknown protocol", SIZED(MACS TYPE4 IPV4("\x45", NONE, "\x40", "\xfd", BAD4, GOOD4)),
	  P4(BAD4T, GOOD4T) },
	/* Control packets of IPv4 */
	{ "DHCP answer", SIZED(MACS TYPE4 IPV4("\x45", NONE, "\x40", P_UDP, BAD4, GOOD4)
			       UDP("\0\x43", "\0\x44")), P4(BAD4T, GOOD4T), .control = true },
	{ "DHCP request", SIZED(MACS TYPE4 IPV4("\x45", NONE, "\x40", P_UDP, GOOD4, BAD4)
				UDP("\0\x44", "\0\x43")), P4(GOOD4T, BAD4T), .control = true },
	{ "DHCP relay", SIZED(MACS TYPE4 IPV4("\x45", NONE, "\x40", P_UDP, BAD4, GOOD4)
			      UDP("\0\x43", "\0\x43")), P4(BAD4T, GOOD4T), .control = true },
	{ "DHCP behind options", SIZED(MACS TYPE4 IPV4("\x46", NONE, "\x40", P_UDP, BAD4, GOOD4)
				       "\1\1\1\0" UDP("\0\x43", "\0\x44")),
	  P4(BAD4T, GOOD4T), .control = true },
	{ "port 67 to another port", SIZED(MACS TYPE4 IPV4("\x45", NONE, "\x40", P_UDP, BAD4, GOOD4)
				   UDP("\0\x43", "\0\x45")), P4(BAD4T, GOOD4T) },
	{ "port 68 from another port", SIZED(MACS TYPE4 IPV4("\x45", NONE, "\x40", P_UDP, BAD4, GOOD4)
				     UDP("\0\x35", "\0\x44")), P4(BAD4T, GOOD4T) },
	{ "DHCP ports in TCP", SIZED(MACS TYPE4 IPV4("\x45", NONE, "\x40", P_TCP, BAD4, GOOD4)
				     UDP("\0\x43", "\0\x44")), P4(BAD4T, GOOD4T) },
	{ "DHCP ports in a later fragment",
	  SIZED(MACS TYPE4 IPV4("\x45", LATER, "\x40", P_UDP, BAD4, GOOD4) UDP("\0\x43", "\0\x44")),
	  P4(BAD4T, GOOD4T) },
	{ "DHCP cut before its ports", SIZED(MACS TYPE4 IPV4("\x45", NONE, "\x40", P_UDP, BAD4, GOOD4)
					     "\0\x43\0"), P4(BAD4T, GOOD4T) },
	{ "IGMP", SIZED(MACS TYPE4 IPV4("\x46", NONE, "\1", P_IGMP, BAD4, "\xe0\0\0\1")
			"\x94\4\0\0" "\x11\x64\0\0" "\0\0\0\0"), P4(BAD4T, "224.0.0.1"), .control = true },
	{ "IGMP from afar", SIZED(MACS TYPE4 IPV4("\x45", NONE, "\x40", P_IGMP, BAD4, GOOD4)
				  "\x11\x64\0\0" "\0\0\0\0"), P4(BAD4T, GOOD4T) },
	/* VLAN tags */
	{ "VLAN", SIZED(MACS TAG TYPE4 IPV4("\x45", NONE, "\x40", P_UDP, BAD4, GOOD4) DNS),
	  P4(BAD4T, GOOD4T), .l2 = true },
	{ "VLAN 802.1ad", SIZED(MACS TAG_S TYPE4 IPV4("\x45", NONE, "\x40", P_UDP, BAD4, GOOD4) DNS),
	  P4(BAD4T, GOOD4T), .l2 = true },
	{ "VLAN 0x9100", SIZED(MACS TAG_O TYPE4 IPV4("\x45", NONE, "\x40", P_UDP, BAD4, GOOD4) DNS),
	  P4(BAD4T, GOOD4T), .l2 = true },
	{ "QinQ", SIZED(MACS TAG_S TAG TYPE4 IPV4("\x45", NONE, "\x40", P_UDP, BAD4, GOOD4) DNS),
	  P4(BAD4T, GOOD4T), .l2 = true },
	{ "two VLAN tags", SIZED(MACS TAG TAG TYPE6 IPV6(P_UDP, "\x40", BAD6, GOOD6) DNS),
	  P4(BAD6T, GOOD6T), .l2 = true },
	{ "four VLAN tags", SIZED(MACS TAG_O TAG_S TAG TAG TYPE4
				  IPV4("\x45", NONE, "\x40", P_UDP, BAD4, GOOD4) DNS),
	  P4(BAD4T, GOOD4T), .l2 = true },
	{ "five VLAN tags", SIZED(MACS TAG TAG TAG TAG TAG TYPE4
				  IPV4("\x45", NONE, "\x40", P_UDP, BAD4, GOOD4) DNS),
	  .kind = PACKET_OTHER, .l2 = true },
	{ "VLAN, elsewhere", SIZED(MACS TAG TYPE4 IPV4("\x45", NONE, "\x40", P_UDP, GOOD4, BAD4) DNS),
	  P4(GOOD4T, BAD4T), .l2 = true },
	{ "VLAN, IPv6", SIZED(MACS TAG TYPE6 IPV6(P_TCP, "\x40", BAD6, GOOD6) TCP),
	  P4(BAD6T, GOOD6T), .l2 = true },
	{ "VLAN, ARP", SIZED(MACS TAG "\x08\6" "\0\1\x08\0\6\4\0\1"), .kind = PACKET_OTHER, .l2 = true },
	{ "VLAN cut", SIZED(MACS "\x81\0" "\0\5\x08"), .kind = PACKET_INVALID, .l2 = true },
	{ "QinQ cut", SIZED(MACS TAG_S "\x81\0" "\0"), .kind = PACKET_INVALID, .l2 = true },
	{ "VLAN and a cut header", SIZED(MACS TAG TYPE4 "\x45\0\0\x14\0\0\0\0\x40\x11\0\0" BAD4 "\xc6\x33\x64"),
	  .kind = PACKET_INVALID, .l2 = true },
	/* IPv6 */
	{ "TCP over IPv6", SIZED(MACS TYPE6 IPV6(P_TCP, "\x40", BAD6, GOOD6) TCP), P4(BAD6T, GOOD6T) },
	{ "UDP over IPv6, elsewhere", SIZED(MACS TYPE6 IPV6(P_UDP, "\x40", GOOD6, BAD6) DNS),
	  P4(GOOD6T, BAD6T) },
	{ "IPv6 between others", SIZED(MACS TYPE6 IPV6(P_UDP, "\x40", GOOD6, GOOD6) DNS),
	  P4(GOOD6T, GOOD6T) },
	{ "IPv4-mapped source", SIZED(MACS TYPE6 IPV6(P_UDP, "\x40", BAD_MAPPED6, GOOD6) DNS),
	  P4(BAD4T, GOOD6T) },
	{ "hop-by-hop options", SIZED(MACS TYPE6 IPV6("\0", "\x40", BAD6, GOOD6) HOP(P_UDP) DNS),
	  P4(BAD6T, GOOD6T) },
	{ "fragment of IPv6", SIZED(MACS TYPE6 IPV6("\x2c", "\x40", BAD6, GOOD6) FRAG(P_UDP, "\0\1") DNS),
	  P4(BAD6T, GOOD6T) },
	{ "later fragment of IPv6", SIZED(MACS TYPE6 IPV6("\x2c", "\x40", BAD6, GOOD6)
					  FRAG(P_UDP, "\5\xa8") "abcd"), P4(BAD6T, GOOD6T) },
	{ "ICMPv6 echo", SIZED(MACS TYPE6 IPV6(P_ICMP6, "\x40", BAD6, GOOD6) ICMP6("\x80")),
	  P4(BAD6T, GOOD6T) },
	{ "ICMPv6 packet too big", SIZED(MACS TYPE6 IPV6(P_ICMP6, "\xff", BAD6, GOOD6) ICMP6("\2")),
	  P4(BAD6T, GOOD6T) },
	/* Source routes of IPv6 */
	{ "mobile route", SIZED(MACS TYPE6 IPV6("\x2b", "\x40", GOOD6, GOOD6)
				RH(P_UDP, "\2", "\2", "\1") BAD6 DNS), P4(GOOD6T, GOOD6T), .final = BAD6T },
	{ "type 0 behind options", SIZED(MACS TYPE6 IPV6("\0", "\x40", GOOD6, GOOD6) HOP("\x3c") DEST("\x2b")
				RH(P_UDP, "\4", "\0", "\1") GOOD6 BAD6 DNS), P4(GOOD6T, GOOD6T), .final = BAD6T },
	{ "segments", SIZED(MACS TYPE6 IPV6("\x2b", "\x40", GOOD6, GOOD6)
			    RH(P_UDP, "\4", "\4", "\1") BAD6 GOOD6 DNS), P4(GOOD6T, GOOD6T), .final = BAD6T },
	{ "segments used up", SIZED(MACS TYPE6 IPV6("\x2b", "\x40", GOOD6, GOOD6)
			    RH(P_UDP, "\2", "\4", "\0") BAD6 DNS), P4(GOOD6T, GOOD6T) },
	{ "route of another type", SIZED(MACS TYPE6 IPV6("\x2b", "\x40", GOOD6, GOOD6)
			    RH(P_UDP, "\2", "\6", "\1") BAD6 DNS), P4(GOOD6T, GOOD6T) },
	{ "route cut", SIZED(MACS TYPE6 IPV6("\x2b", "\x40", GOOD6, GOOD6)
			     RH(P_UDP, "\2", "\4", "\1") "\x20\1\x0d\xb8"), P4(GOOD6T, GOOD6T) },
	{ "route without an address", SIZED(MACS TYPE6 IPV6("\x2b", "\x40", GOOD6, GOOD6)
			     RH(P_UDP, "\0", "\2", "\1") DNS), P4(GOOD6T, GOOD6T) },
	{ "no next header", SIZED(MACS TYPE6 IPV6("\x3b", "\x40", BAD6, GOOD6)), P4(BAD6T, GOOD6T) },
	/* Control packets of IPv6 */
	{ "router solicitation", SIZED(MACS TYPE6 IPV6(P_ICMP6, "\xff", BAD6, GOOD6) ICMP6("\x85")),
	  P4(BAD6T, GOOD6T), .control = true },
	{ "neighbour advertisement", SIZED(MACS TYPE6 IPV6(P_ICMP6, "\xff", BAD6, GOOD6) ICMP6("\x88")),
	  P4(BAD6T, GOOD6T), .control = true },
	{ "redirect", SIZED(MACS TYPE6 IPV6(P_ICMP6, "\xff", BAD6, GOOD6) ICMP6("\x89")),
	  P4(BAD6T, GOOD6T), .control = true },
	{ "ICMPv6 after the redirect", SIZED(MACS TYPE6 IPV6(P_ICMP6, "\xff", BAD6, GOOD6) ICMP6("\x8a")),
	  P4(BAD6T, GOOD6T) },
	{ "neighbour solicitation from afar",
	  SIZED(MACS TYPE6 IPV6(P_ICMP6, "\xfe", BAD6, GOOD6) ICMP6("\x87")), P4(BAD6T, GOOD6T) },
	{ "MLD report", SIZED(MACS TYPE6 IPV6("\0", "\1", BAD6, GOOD6) HOP(P_ICMP6) ICMP6("\x83")),
	  P4(BAD6T, GOOD6T), .control = true },
	{ "MLD version 2", SIZED(MACS TYPE6 IPV6("\0", "\1", BAD6, GOOD6) HOP(P_ICMP6) ICMP6("\x8f")),
	  P4(BAD6T, GOOD6T), .control = true },
	{ "MLD from afar", SIZED(MACS TYPE6 IPV6("\0", "\2", BAD6, GOOD6) HOP(P_ICMP6) ICMP6("\x82")),
	  P4(BAD6T, GOOD6T) },
	{ "MLD behind three headers", SIZED(MACS TYPE6 IPV6("\0", "\1", BAD6, GOOD6) HOP16("\x3c")
				    DEST("\x2b") ROUTING(P_ICMP6) ICMP6("\x82")),
	  P4(BAD6T, GOOD6T), .control = true },
	{ "MLD behind five headers", SIZED(MACS TYPE6 IPV6("\0", "\1", BAD6, GOOD6) HOP("\x3c") DEST("\x3c")
				   DEST("\x3c") DEST("\x3c") DEST(P_ICMP6) ICMP6("\x82")),
	  P4(BAD6T, GOOD6T) },
	{ "MLD behind an authentication header",
	  SIZED(MACS TYPE6 IPV6("\x33", "\1", BAD6, GOOD6) AH(P_ICMP6) ICMP6("\x82")),
	  P4(BAD6T, GOOD6T) },
	{ "ICMPv6 cut", SIZED(MACS TYPE6 IPV6(P_ICMP6, "\xff", BAD6, GOOD6)), P4(BAD6T, GOOD6T) },
	{ "options cut, IPv6", SIZED(MACS TYPE6 IPV6("\0", "\1", BAD6, GOOD6) P_ICMP6 "\0\5\2"),
	  P4(BAD6T, GOOD6T) },
	{ "options beyond the end", SIZED(MACS TYPE6 IPV6("\0", "\1", BAD6, GOOD6) P_ICMP6 "\xff\5\2\0\0\1\0"
				  ICMP6("\x82")), P4(BAD6T, GOOD6T) },
	{ "fragmented solicitation", SIZED(MACS TYPE6 IPV6("\x2c", "\xff", BAD6, GOOD6)
					   FRAG(P_ICMP6, "\0\x08") ICMP6("\x87")), P4(BAD6T, GOOD6T) },
	{ "DHCPv6 answer", SIZED(MACS TYPE6 IPV6(P_UDP, "\x40", BAD6, GOOD6) UDP("\2\x23", "\2\x22")),
	  P4(BAD6T, GOOD6T), .control = true },
	{ "DHCPv6 request", SIZED(MACS TYPE6 IPV6(P_UDP, "\x40", GOOD6, BAD6) UDP("\2\x22", "\2\x23")),
	  P4(GOOD6T, BAD6T), .control = true },
	{ "DHCPv6 ports reversed", SIZED(MACS TYPE6 IPV6(P_UDP, "\x40", BAD6, GOOD6)
					 UDP("\2\x22", "\2\x22")), P4(BAD6T, GOOD6T) },
	{ "DHCPv4 ports over IPv6", SIZED(MACS TYPE6 IPV6(P_UDP, "\x40", BAD6, GOOD6)
					  UDP("\0\x43", "\0\x44")), P4(BAD6T, GOOD6T) },
	/* No IP */
	{ "ARP", SIZED(MACS "\x08\6" "\0\1\x08\0\6\4\0\1" "\x02\0\0\0\0\2" BAD4 "\0\0\0\0\0\0" GOOD4),
	  .kind = PACKET_OTHER, .l2 = true },
	{ "LLDP", SIZED(MACS "\x88\xcc" "\2\7\4\0\0\0\0\0\0"), .kind = PACKET_OTHER, .l2 = true },
	{ "PPPoE", SIZED(MACS "\x88\x64" "\x11\0\0\1\0\x16\0\x21" IPV4("\x45", NONE, "\x40", P_UDP, BAD4, GOOD4)),
	  .kind = PACKET_OTHER, .l2 = true },
	{ "802.3 length", SIZED(MACS "\0\x26" "\x42\x42\3" "\0\0\0\0\0"), .kind = PACKET_OTHER, .l2 = true },
	{ "type and no more", SIZED(MACS "\x88\xb5"), .kind = PACKET_OTHER, .l2 = true },
	/* Invalid */
	{ "nothing", SIZED(""), .kind = PACKET_INVALID, .l2 = true },
	{ "13 bytes", SIZED(MACS "\x08"), .kind = PACKET_INVALID, .l2 = true },
	{ "no header", SIZED(MACS TYPE4), .kind = PACKET_INVALID },
	{ "header cut by one byte", SIZED(MACS TYPE4 "\x45\0\0\x14\0\0\0\0\x40\x11\0\0" BAD4 "\xc6\x33\x64"),
	  .kind = PACKET_INVALID },
	{ "header and no more", SIZED(MACS TYPE4 IPV4("\x45", NONE, "\x40", P_UDP, BAD4, GOOD4)),
	  P4(BAD4T, GOOD4T) },
	{ "IPv6 header cut by one byte",
	  SIZED(MACS TYPE6 "\x60\0\0\0\0\0\x11\x40" BAD6 "\x20\1\x0d\xb8\0\1\0\0\0\0\0\0\0\0\0"),
	  .kind = PACKET_INVALID },
	{ "version 5", SIZED(MACS TYPE4 IPV4("\x55", NONE, "\x40", P_UDP, BAD4, GOOD4) DNS),
	  .kind = PACKET_INVALID },
	{ "header length 4", SIZED(MACS TYPE4 IPV4("\x44", NONE, "\x40", P_UDP, BAD4, GOOD4) DNS),
	  .kind = PACKET_INVALID },
	{ "IPv6 as IPv4", SIZED(MACS TYPE4 IPV6(P_UDP, "\x40", BAD6, GOOD6) DNS), .kind = PACKET_INVALID },
	{ "IPv4 as IPv6", SIZED(MACS TYPE6 IPV4("\x45", NONE, "\x40", P_UDP, BAD4, GOOD4)
				"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), .kind = PACKET_INVALID },
};
/* clang-format on */

#endif
